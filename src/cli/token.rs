//! The credential of whoever calls: an API key, a token, or the secret of an identity or a namespace.
//!
//! Sent with every call as `authorization: Bearer …`. Printed nowhere: not in help, errors or debugging output. What
//! cannot be sent is refused with the first call.

use std::{fmt, fs, path::PathBuf};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// The largest file that is read as a credential: tokens have a few kilobytes at most.
const FILE_BYTES: u64 = 64 * 1024;

/// What to show the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TokenArgs {
    /// What you show the server: an API key, a token or a secret. Others on this machine can see arguments: better is
    /// the variable, or a file
    #[arg(long, env = "SALON_TOKEN", hide_env_values = true, value_name = "CREDENTIAL", value_parser = given)]
    token: Option<Token>,
    /// The file that holds it; goes before --token
    #[arg(long, value_name = "PATH", value_parser = read)]
    token_file: Option<Token>,
}

impl From<TokenArgs> for Option<Token> {
    fn from(args: TokenArgs) -> Self {
        // A variable that is set to nothing is as good as none.
        args.token_file.or(args.token).filter(|token| *token != Token::EMPTY)
    }
}

/// A credential; `None`: a text that cannot be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: Option<MetadataValue<Ascii>>,
    is_empty: bool,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Nothing was given.
    const EMPTY: Self = Self { value: None, is_empty: true };

    /// What this text is, without the white space around it.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let is_sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = is_sound.then(|| format!("Bearer {text}").parse().ok()).flatten();
        let value = value.map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        });
        Self { value, is_empty: text.is_empty() }
    }
}

/// Never fails: an error would repeat the text.
#[expect(clippy::unnecessary_wraps, reason = "as the parser of arguments wants it")]
fn given(text: &str) -> Result<Token, String> {
    Ok(Token::new(text))
}

/// The credential in a file: its only line.
fn read(file: &str) -> Result<Token, String> {
    let file = PathBuf::from(file);
    let length = fs::metadata(&file).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES {
        return Err(format!("it has {length} bytes, a credential has at most {FILE_BYTES}"));
    }
    fs::read_to_string(&file).map(|text| Token::new(&text)).map_err(|error| error.to_string())
}

/// Adds the credential to each call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(pub Option<Token>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match &self.0 {
            None => {}
            Some(Token { value: Some(value), .. }) => {
                request.metadata_mut().insert("authorization", value.clone());
            }
            Some(Token { value: None, .. }) => {
                let problem =
                    "what was given is no credential: it must be one line of visible ASCII characters";
                return Err(Status::unauthenticated(problem));
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_sent_and_not_shown() {
        let token = Token::new(" s3cr3t\n");
        assert!(!format!("{:?}", Bearer(Some(token.clone()))).contains("s3cr3t"));
        let request = Bearer(Some(token)).call(Request::new(())).unwrap();
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent, "Bearer s3cr3t");
        assert!(sent.is_sensitive() && !format!("{:?}", request.metadata()).contains("s3cr3t"));
        assert!(Bearer(None).call(Request::new(())).unwrap().metadata().is_empty());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_repeated() {
        for wrong in ["", " ", "two secrets", "two\nsecrets", "schlüssel"] {
            let refused = Bearer(Some(Token::new(wrong))).call(Request::new(())).unwrap_err();
            assert!(!format!("{refused:?}").contains("secrets"), "{refused}");
            assert!(refused.message().contains("one line"), "{refused}");
        }
    }

    #[test]
    fn a_variable_without_anything_in_it_is_none() {
        for nothing in ["", " \n"] {
            let args = TokenArgs { token: Some(Token::new(nothing)), token_file: None };
            assert_eq!(Option::<Token>::from(args), None);
        }
    }

    #[test]
    fn a_file_goes_before_the_variable() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let path = file.to_str().unwrap();
        assert!(read(path).is_err());
        fs::write(&file, "s3cr3t\n").unwrap();
        let read = read(path).unwrap();
        let args = TokenArgs { token: Some(Token::new("other")), token_file: Some(read.clone()) };
        assert_eq!(Option::from(args), Some(read));
    }
}
