//! Addresses and ranges of addresses, as strictly as Kubernetes' newest validation reads them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Why a string is no address or no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CidrError {
    /// It does not look like one at all.
    #[error("is no IP address (leading zeros are not allowed)")]
    Address,
    /// `::ffff:10.0.0.1` and the like.
    #[error("is an IPv4 address in IPv6 clothes; write it as IPv4")]
    Mapped,
    /// There is no `/`.
    #[error("is no CIDR: it needs a prefix length, as in 10.0.0.0/8")]
    NoLength,
    /// What follows the `/`.
    #[error("has a prefix length that is none (0 to 32 for IPv4, to 128 for IPv6, no leading zeros)")]
    Length,
}

/// A range as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    /// The range, host bits cleared.
    pub(crate) net: IpNet,
    /// Whether host bits had to be cleared.
    pub(crate) masked: bool,
}

/// Reads an address.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, CidrError> {
    let address: IpAddr = text.parse().map_err(|_| CidrError::Address)?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(CidrError::Mapped),
        address => Ok(address),
    }
}

/// Reads a range.
pub(crate) fn parse_cidr(text: &str) -> Result<Cidr, CidrError> {
    let (address, length) = text.split_once('/').ok_or(CidrError::NoLength)?;
    let address = parse_address(address)?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (length.len() > 1 && length.starts_with('0')) {
        return Err(CidrError::Length);
    }
    let length: u8 = length.parse().map_err(|_| CidrError::Length)?;
    let written = IpNet::new(address, length).map_err(|_| CidrError::Length)?;
    let net = written.trunc();
    Ok(Cidr { net, masked: net.addr() != address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_masked_to_their_prefix() {
        let table = [
            ("10.1.0.0/16", "10.1.0.0/16", false),
            ("10.1.2.3/16", "10.1.0.0/16", true),
            ("0.0.0.0/0", "0.0.0.0/0", false),
            ("10.1.2.3/32", "10.1.2.3/32", false),
            ("fd00:1::/48", "fd00:1::/48", false),
            ("fd00:1::5/48", "fd00:1::/48", true),
            ("::/0", "::/0", false),
        ];
        for (text, net, masked) in table {
            let expect = Cidr { net: net.parse().unwrap(), masked };
            assert_eq!(parse_cidr(text), Ok(expect), "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let table = [
            ("010.0.0.0/8", CidrError::Address),
            ("10.0.0.0/08", CidrError::Length),
            ("10.0.0.0/+8", CidrError::Length),
            ("10.0.0.0/33", CidrError::Length),
            ("10.0.0.0/", CidrError::Length),
            ("::/129", CidrError::Length),
            ("::/999", CidrError::Length),
            ("10.0.0.0", CidrError::NoLength),
            ("10.0.0/8", CidrError::Address),
            (" 10.0.0.0/8", CidrError::Address),
            ("fe80::1%eth0/64", CidrError::Address),
            ("::ffff:10.0.0.0/104", CidrError::Mapped),
            ("::ffff:0:0/96", CidrError::Mapped),
            ("", CidrError::NoLength),
        ];
        for (text, expect) in table {
            assert_eq!(parse_cidr(text), Err(expect), "{text}");
        }
    }
}
