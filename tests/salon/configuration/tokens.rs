//! Whose tokens are believed, as an operator says it.

use std::fs;

use salon::{
    auth::jwt::{error::IssuerError, sign::JoinToken},
    clock::Timestamp,
    config::show,
    ids::{Namespace, UserId},
    server::tokens::{TokensError, build},
};
use tempfile::TempDir;

use super::{good, problem, problems, read};

const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";

/// One issuer with these lines.
fn issuer(lines: &str) -> String {
    format!("auth:\n  tokens:\n    issuers:\n      web: {{ {lines} }}\n")
}

#[tokio::test]
async fn a_join_token_of_a_configured_key_is_believed() {
    let config = good("auth:\n  tokens:\n    signing_key_env: [KEY]\n", &[("KEY", SECRET)]);
    let parts = build(&config.auth.tokens).unwrap();
    let now = Timestamp(1_800_000_000_000);
    let of = JoinToken {
        namespace: Namespace::default(),
        user: UserId::parse("zoe").unwrap(),
        name: None,
        room: None,
        grants: salon::auth::grants::Grants::default(),
        lifetime: std::time::Duration::from_secs(60),
        minted_by: None,
    };
    let signed = parts.signer.unwrap().sign(&of, now).unwrap();
    assert_eq!(parts.verifier.verify(&signed.token, now).await.unwrap().user, of.user);
    let nobody = build(&good("", &[]).auth.tokens).unwrap();
    assert!(nobody.signer.is_none() && nobody.verifier.is_empty());
}

#[test]
fn keys_come_from_variables_and_files_and_are_shown_nowhere() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, format!("{SECRET}-in-a-file\n")).unwrap();
    let lines = format!("algorithms: HS256, key_env: KEY, key_file: [{path:?}], roles: {{ Coach: admin }}");
    let loaded = read(&issuer(&lines), &[("KEY", SECRET)]).unwrap();
    assert_eq!(loaded.config.auth.tokens.keys_of("web").len(), 2);
    assert!(!build(&loaded.config.auth.tokens).unwrap().verifier.is_empty());
    let shown = show(&loaded);
    assert!(shown.contains("KEY") && !shown.contains(SECRET), "{shown}");
    let printed = format!("{loaded:?} {:?}", build(&loaded.config.auth.tokens));
    assert!(!printed.contains(SECRET), "{printed}");
    // What is shown is a file that says the same.
    let again = read(&shown, &[("KEY", SECRET)]).unwrap();
    assert_eq!(again.config.auth, loaded.config.auth);
}

#[test]
fn what_cannot_be_trusted_is_refused_with_its_mend() {
    let url = "jwks_url: 'https://id.example.com/keys'";
    for (lines, parts) in [
        ("key_env: [KEY]".to_owned(), ["web.algorithms", "HS256, RS256, ES256, EdDSA"]),
        ("algorithms: [none], key_env: [KEY]".into(), ["web.algorithms", "none"]),
        ("algorithms: [HS256]".into(), ["issuers.web", "has no key"]),
        ("algorithms: [HS256, RS256], key_env: [KEY]".into(), ["web.algorithms", "make two issuers"]),
        (format!("algorithms: [HS256], {url}"), ["web.jwks_url", "no secret"]),
        ("algorithms: [RS256], jwks_url: 'http://id.example.com/keys'".into(), ["web.jwks_url", "https://"]),
        ("algorithms: [HS256], key_env: [OTHER]".into(), ["web.key_env", "not set"]),
        ("algorithms: [HS256], key_file: [/nowhere/key]".into(), ["web.key_file", "cannot be read"]),
        (format!("algorithms: [RS256], {url}, namespace: A/b"), ["web.namespace", "a-z"]),
        (format!("algorithms: [RS256], {url}, claims: other"), ["web.claims", "coaching"]),
        (format!("algorithms: [RS256], {url}, claim_names: {{ user: '' }}"), ["claim_names.user", "bytes"]),
        (format!("algorithms: [RS256], {url}, roles: {{ x: owner }}"), ["web.roles.x", "admin"]),
        (format!("algorithms: [RS256], {url}, leeway: 6m"), ["web.leeway", "5m"]),
        (format!("algorithms: [RS256], {url}, max_lifetime: 1s"), ["web.max_lifetime", "1m"]),
        (format!("algorithms: [RS256], {url}, issuer: ''"), ["web.issuer", "bytes"]),
        (format!("algorithms: [RS256], {url}, isuer: a"), ["web.isuer", "web.issuer"]),
    ] {
        problem(&issuer(&lines), &[("KEY", SECRET)], &parts);
    }
}

#[test]
fn a_key_in_place_of_its_variable_is_not_repeated() {
    let all = problems(&issuer(&format!("algorithms: [HS256], key_env: [{SECRET}]")), &[]);
    assert!(!format!("{all:?}").contains(SECRET), "{all:?}");
    let all = problems(&format!("auth:\n  tokens:\n    signing_key_env: [{SECRET}]\n"), &[]);
    assert!(!format!("{all:?}").contains(SECRET), "{all:?}");
}

#[test]
fn a_key_that_is_no_good_ends_the_start() {
    let refused = |lines: &str, key: &str| {
        let config = good(&issuer(lines), &[("KEY", key)]);
        build(&config.auth.tokens).unwrap_err().to_string()
    };
    let text = refused("algorithms: [HS256], key_env: [KEY]", "short");
    assert!(text.contains("`web`") && text.contains("32 bytes") && !text.contains("short"), "{text}");
    let text = refused("algorithms: [RS256], key_env: [KEY]", SECRET);
    assert!(text.contains("BEGIN PUBLIC KEY") && !text.contains(SECRET), "{text}");
    let config = good("auth:\n  tokens:\n    signing_key_env: [KEY]\n", &[("KEY", "short")]);
    assert!(matches!(build(&config.auth.tokens), Err(TokensError::Signing(_))));
    let two = "auth:\n  tokens:\n    issuers:\n      a: { algorithms: [HS256], key_env: [KEY] }\n      \
               b: { algorithms: [HS256], key_env: [KEY] }\n";
    let both = build(&good(two, &[("KEY", SECRET)]).auth.tokens);
    assert!(matches!(both, Err(TokensError::Issuer(IssuerError::Ambiguous { .. }))));
}
