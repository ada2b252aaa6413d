//! What a call shows of itself, out of its headers and its connection.
//!
//! Takes the secrets out of the headers: nothing behind this sees them, and nothing can log them.

use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
use secrecy::SecretString;

use crate::{
    auth::gate::{Certificate, Refused, Shown},
    grpc::peer::Peer,
};

/// The header of an identity's secret.
const IDENTITY: &str = "x-identity-secret";
/// The longest credential, in bytes: a token with many claims.
const MAX_BYTES: usize = 8 * 1024;

/// Takes what a request shows out of it.
pub(super) fn take<B>(request: &mut Request<B>) -> Result<Shown, Refused> {
    let certificate = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.as_deref());
    let certificate = certificate.map(|certificate| Certificate {
        subject: certificate.subject.clone(),
        fingerprint: certificate.fingerprint.clone(),
        not_after: certificate.not_after,
    });
    let headers = request.headers_mut();
    let bearer = one(headers, AUTHORIZATION.as_str())?.map(|value| bearer(&value)).transpose()?;
    let identity = one(headers, IDENTITY)?.map(|value| text(&value)).transpose()?;
    Ok(Shown { bearer, identity, certificate })
}

/// The value of a header that may stand once.
fn one(headers: &mut HeaderMap, name: &str) -> Result<Option<HeaderValue>, Refused> {
    let is_once = headers.get_all(name).iter().nth(1).is_none();
    let value = headers.remove(name);
    if is_once { Ok(value) } else { Err(Refused::Several) }
}

fn bearer(value: &HeaderValue) -> Result<SecretString, Refused> {
    let whole = value.to_str().map_err(|_| Refused::Invalid("it is no text"))?;
    let not_bearer = Refused::Invalid("`authorization` must be `Bearer` and the credential behind it");
    let Some((scheme, credential)) = whole.split_once(' ') else {
        return Err(not_bearer);
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(not_bearer);
    }
    sized(credential.trim_start())
}

fn text(value: &HeaderValue) -> Result<SecretString, Refused> {
    sized(value.to_str().map_err(|_| Refused::Invalid("it is no text"))?)
}

fn sized(credential: &str) -> Result<SecretString, Refused> {
    match credential.len() {
        0 => Err(Refused::Missing),
        len if len > MAX_BYTES => Err(Refused::Invalid("it is too long")),
        _ => Ok(credential.to_owned().into()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn shown(headers: &[(&'static str, &str)]) -> Result<Shown, Refused> {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let shown = take(&mut request);
        assert!(request.headers().is_empty(), "secrets are taken out of the headers");
        shown
    }

    #[test]
    fn a_bearer_is_read_whatever_the_case_of_its_scheme() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let read = shown(&[("authorization", &format!("{scheme} a.b.c"))]).unwrap();
            assert_eq!(read.bearer.unwrap().expose_secret(), "a.b.c");
        }
        let read = shown(&[("x-identity-secret", "s")]).unwrap();
        assert_eq!((read.bearer.is_none(), read.identity.unwrap().expose_secret()), (true, "s"));
        assert!(shown(&[]).unwrap().bearer.is_none());
    }

    #[test]
    fn what_is_no_one_credential_is_refused() {
        assert!(matches!(shown(&[("authorization", "Basic YTpi")]), Err(Refused::Invalid(_))));
        assert!(matches!(shown(&[("authorization", "Bearer")]), Err(Refused::Invalid(_))));
        assert!(matches!(shown(&[("authorization", "Bearer ")]), Err(Refused::Missing)));
        let long = format!("Bearer {}", "x".repeat(MAX_BYTES + 1));
        assert!(matches!(shown(&[("authorization", &long)]), Err(Refused::Invalid(_))));
        let longest = format!("Bearer {}", "x".repeat(MAX_BYTES));
        assert!(shown(&[("authorization", &longest)]).is_ok());
        let mut request = Request::new(());
        request.headers_mut().append("authorization", "Bearer a".parse().unwrap());
        request.headers_mut().append("authorization", "Bearer b".parse().unwrap());
        assert!(matches!(take(&mut request), Err(Refused::Several)));
    }
}
