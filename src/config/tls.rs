//! TLS of the gRPC door: which files it is made of, and who has to show a certificate.
//!
//! Only what the values say is checked here. Whether the files are there, fit one another and have not ended shows when
//! the start reads them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{ClientAuth, checks::Checks};

/// TLS of the gRPC door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The server's certificate and those between it and its authority; none: nothing is encrypted.
    pub certificate: Option<PathBuf>,
    /// The key of the certificate.
    pub key: Option<PathBuf>,
    /// The authorities whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub client_auth: ClientAuth,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificate: None, key: None, client_ca: None, client_auth: ClientAuth::None }
    }
}

impl Tls {
    /// Whether the door speaks TLS.
    pub fn is_on(&self) -> bool {
        self.certificate.is_some()
    }
}

/// The files that belong together.
pub(super) fn check(checks: &mut Checks<'_>, tls: &Tls) {
    let files =
        [("tls.certificate", &tls.certificate), ("tls.key", &tls.key), ("tls.client_ca", &tls.client_ca)];
    for (key, path) in files.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        let path = path.to_string_lossy();
        let is_path = !path.is_empty() && !path.contains(['\0', '\n']);
        let mend = "write for example `/etc/salon/tls/server.pem`";
        checks.require(is_path, key, &path, "must be the path of a file", mend);
    }
    let both = tls.certificate.is_some() == tls.key.is_some();
    let missing = if tls.key.is_some() { "tls.certificate" } else { "tls.key" };
    let rule = "must be set: a certificate and its key are needed together";
    checks.require(both, missing, "", rule, "name both files in PEM, or neither for a door without TLS");
    let asks = tls.client_auth != ClientAuth::None;
    checks.require(
        !asks || tls.is_on(),
        "tls.client_auth",
        tls.client_auth.as_str(),
        "means nothing without tls.certificate",
        "set tls.certificate and tls.key, or write `none`",
    );
    checks.require(
        !asks || tls.client_ca.is_some(),
        "tls.client_ca",
        "",
        "must be set when clients are asked for certificates",
        "name the file with the certificates of the authorities that sign those of clients",
    );
    checks.require(
        asks || tls.client_ca.is_none(),
        "tls.client_auth",
        tls.client_auth.as_str(),
        "leaves tls.client_ca without use",
        "write `optional` or `required`, or leave tls.client_ca out",
    );
}
