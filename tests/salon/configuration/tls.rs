//! What of TLS makes no sense together.

use super::*;

const BOTH: &str = "tls:\n  certificate: a.pem\n  key: a.key\n";

#[test]
fn a_certificate_needs_its_key_and_the_key_its_certificate() {
    let config = good(BOTH, &[]);
    assert!(config.tls.is_on() && !Config::default().tls.is_on());
    problem("tls:\n  certificate: a.pem\n", &[], &["tls.key", "must be set", "neither"]);
    problem("tls:\n  key: a.key\n", &[], &["tls.certificate", "must be set", "neither"]);
}

#[test]
fn clients_are_asked_only_where_authorities_are_known_and_the_door_speaks_tls() {
    let with = |rest: &str| format!("{BOTH}{rest}");
    for auth in ["optional", "required"] {
        good(&with(&format!("  client_auth: {auth}\n  client_ca: ca.pem\n")), &[]);
        problem(&with(&format!("  client_auth: {auth}\n")), &[], &["tls.client_ca", "must be set"]);
        let plain = format!("tls:\n  client_auth: {auth}\n  client_ca: ca.pem\n");
        problem(&plain, &[], &["tls.client_auth", "without tls.certificate"]);
    }
    problem(&with("  client_ca: ca.pem\n"), &[], &["tls.client_auth", "`required`"]);
    problem(&with("  client_auth: maybe\n"), &[], &["tls.client_auth", "`none` or `optional` or `required`"]);
}

#[test]
fn a_key_in_place_of_its_file_is_refused_and_not_repeated() {
    let pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----";
    let found = problem(BOTH, &[("SALON__TLS__KEY", pem)], &["tls.key", "path of a file"]);
    assert!(!found.to_string().contains("c2VjcmV0"), "{found}");
}
