//! The certificates of one control plane, and the kubeconfigs of those who talk to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use crate::address::Addresses;
use crate::error::{Error, Result};

/// Names by which the cluster's own pods know the API server.
const SERVER_NAMES: [&str; 4] = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];

/// Signs for the API server and for its users; gone with the control plane.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both in PEM.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// How a kubeconfig's user proves who it is.
#[derive(Debug)]
pub(super) enum Credential<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

impl Authority {
    /// A new one, of a key of its own.
    pub(super) fn new(cluster: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("{cluster}-ca"), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer =
            CertifiedIssuer::self_signed(params, new_key()?).map_err(cannot("make a certificate authority"))?;
        Ok(Self { issuer })
    }

    /// Its own certificate in PEM.
    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// The API server's, for all its addresses and names.
    pub(super) fn server(&self, addresses: Addresses) -> Result<Identity> {
        let mut params = CertificateParams::new(SERVER_NAMES.map(String::from)).map_err(cannot("name a server"))?;
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        params.subject_alt_names.extend(addresses.iter().chain(loopback).map(SanType::IpAddress));
        params.distinguished_name = name("kube-apiserver", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A user's: Kubernetes takes the name from CN and the group from O.
    pub(super) fn user(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A kubeconfig with all that it needs inside, as JSON, which is YAML.
    pub(super) fn kubeconfig(&self, server: &str, user: &str, credential: &Credential<'_>) -> Value {
        let proof = match credential {
            Credential::Certificate(Identity { certificate, key }) => json!({
                "client-certificate-data": BASE64_STANDARD.encode(certificate),
                "client-key-data": BASE64_STANDARD.encode(key),
            }),
            Credential::Token(token) => json!({"token": token}),
        };
        let authority = BASE64_STANDARD.encode(self.certificate());
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": proof}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        })
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(cannot("sign a certificate"))?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A key for the tokens of service accounts, in PEM: what signs them, and what verifies them.
pub(super) fn token_key() -> Result<(String, String)> {
    let key = new_key()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate().map_err(cannot("make a key"))
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn cannot(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let what = format!("cannot {what}");
    move |source| Error::Io { what, source: std::io::Error::other(source) }
}
