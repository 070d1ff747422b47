//! Which strings Kubernetes takes for label keys, label values and port names.

use std::fmt;

/// Why a string is none of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const NAME: &str = "a label key is a name of 1 to 63 letters, digits, '-', '_' and '.', \
                    beginning and ending with a letter or digit";
const PREFIX: &str = "a label key's prefix, before '/', is a DNS name of at most 253 lower-case letters, \
                      digits, '-' and '.'";
const SLASHES: &str = "a label key has at most one '/'";
const VALUE: &str = "a label value has at most 63 letters, digits, '-', '_' and '.', \
                     beginning and ending with a letter or digit";
const PORT: &str = "a port name has at most 15 lower-case letters, digits and '-', at least one letter, \
                    no '-' at its ends, no '--' (a port number is written without quotes)";

/// `IsQualifiedName` of k8s.io/apimachinery/pkg/util/validation.
pub(super) fn check_key(key: &str) -> Result<(), Malformed> {
    let name = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => return Err(Malformed(SLASHES)),
        Some((prefix, _)) if !is_dns_subdomain(prefix) => return Err(Malformed(PREFIX)),
        Some((_, name)) => name,
        None => key,
    };
    if is_name(name) { Ok(()) } else { Err(Malformed(NAME)) }
}

/// `IsValidLabelValue` of k8s.io/apimachinery/pkg/util/validation.
pub(super) fn check_value(value: &str) -> Result<(), Malformed> {
    if value.is_empty() || is_name(value) { Ok(()) } else { Err(Malformed(VALUE)) }
}

/// `IsValidPortName` of k8s.io/apimachinery/pkg/util/validation (RFC 6335 section 5.1).
pub(super) fn check_port_name(name: &str) -> Result<(), Malformed> {
    let bytes = name.as_bytes();
    let known = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let valid = bytes.len() <= 15
        && bytes.iter().all(known)
        && bytes.iter().any(u8::is_ascii_lowercase)
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-');
    if valid { Ok(()) } else { Err(Malformed(PORT)) }
}

fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= 63
        && bytes.iter().all(known)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_dns_subdomain(text: &str) -> bool {
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.iter().all(|byte| outer(byte) || *byte == b'-')
            && bytes.first().is_some_and(outer)
            && bytes.last().is_some_and(outer)
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_qualified_names() {
        let (name, prefix) = ("n".repeat(63), ["a"; 127].join("."));
        let longest = format!("{prefix}/{name}");
        for valid in ["app", "app.kubernetes.io/name", "A_b.c-1", "1", &longest] {
            assert_eq!(check_key(valid), Ok(()), "{valid}");
        }
        let (long_name, long_prefix) = ("n".repeat(64), format!("{prefix}a/x"));
        for invalid in ["", "/", "/app", "a/", "a/b/c", "-a", "a-", "a b", "ä", "A.io/x", "a..b/x", "a_b/x", "-a/x"] {
            assert!(check_key(invalid).is_err(), "{invalid}");
        }
        assert!(check_key(&long_name).is_err());
        assert!(check_key(&long_prefix).is_err());
    }

    #[test]
    fn values_may_be_empty_but_not_long() {
        let (longest, long) = ("v".repeat(63), "v".repeat(64));
        for valid in ["", "a", "A_b.c-1", "0", &longest] {
            assert_eq!(check_value(valid), Ok(()), "{valid}");
        }
        for invalid in ["-a", "a-", "_", ".", "a b", "a/b", "ä", &long] {
            assert!(check_value(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn port_names_have_a_letter() {
        for valid in ["http", "h", "80a", "a-b-c", "abcdefghijklmno"] {
            assert_eq!(check_port_name(valid), Ok(()), "{valid}");
        }
        for invalid in ["", "80", "HTTP", "-a", "a-", "a--b", "a_b", "abcdefghijklmnop", "a b"] {
            assert!(check_port_name(invalid).is_err(), "{invalid}");
        }
    }
}
