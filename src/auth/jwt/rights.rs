//! Grants as a token writes them, both ways.
//!
//! An object says `false` to what is taken away; a list names what is left. Words that are not known here give
//! nothing. One that takes away something unknown refuses the token: its issuer meant less than would be given.

use serde_json::{Value, json};

use crate::auth::{
    grants::{Grants, Media},
    jwt::error::TokenError,
};

/// Grants without their role; all of them when the claim is not there.
pub(super) fn read(claim: &str, value: Option<&Value>) -> Result<Grants, TokenError> {
    let Some(value) = value else { return Ok(Grants::default()) };
    match value {
        Value::Array(words) => {
            let mut grants = Grants { media: Media::ALL, ..Grants::NONE };
            for word in words {
                let word =
                    word.as_str().ok_or_else(|| TokenError::claim(claim, "must be a list of words"))?;
                if let Some(right) = right(&mut grants, word) {
                    *right = true;
                }
            }
            Ok(grants)
        }
        Value::Object(members) => {
            let mut grants = Grants::default();
            for (word, value) in members {
                match (value, right(&mut grants, word)) {
                    (media, _) if word == "media" => {
                        grants.media = self::media(claim, Some(media))?.unwrap_or_default();
                    }
                    (Value::Bool(given), Some(right)) => *right = *given,
                    (Value::Bool(true), None) => {}
                    (Value::Bool(false), None) => {
                        return Err(TokenError::claim(claim, "takes away something that is not known here"));
                    }
                    (_, _) => {
                        return Err(TokenError::claim(claim, "must say `true` or `false` to each word"));
                    }
                }
            }
            Ok(grants)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(TokenError::claim(claim, "must be an object or a list of words"))
        }
    }
}

/// The right that a word means.
fn right<'a>(grants: &'a mut Grants, word: &str) -> Option<&'a mut bool> {
    match word {
        "join" => Some(&mut grants.join),
        "write" => Some(&mut grants.write),
        "moderate" => Some(&mut grants.moderate),
        "admin" => Some(&mut grants.admin),
        _ => None,
    }
}

/// The media that a list names; none when the claim is not there.
pub(super) fn media(claim: &str, value: Option<&Value>) -> Result<Option<Media>, TokenError> {
    let refused = || TokenError::claim(claim, "must be a list of media: `video`, `audio`, `screen-share`");
    let words = match value {
        None => return Ok(None),
        Some(Value::Array(words)) => words,
        Some(_) => return Err(refused()),
    };
    let mut media = Media::NONE;
    for word in words {
        match word.as_str().ok_or_else(refused)? {
            "video" => media.video = true,
            "audio" => media.audio = true,
            "screen-share" | "screen_share" => media.screen_share = true,
            _ => {}
        }
    }
    Ok(Some(media))
}

/// Grants as our own tokens write them: every word, so that a later default changes no token that is out.
pub(super) fn write(grants: Grants) -> Value {
    let Media { video, audio, screen_share } = grants.media;
    let media = [(video, "video"), (audio, "audio"), (screen_share, "screen-share")];
    let media: Vec<&str> = media.into_iter().filter_map(|(given, word)| given.then_some(word)).collect();
    json!({
        "join": grants.join,
        "write": grants.write,
        "moderate": grants.moderate,
        "admin": grants.admin,
        "media": media,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &Value) -> Option<Grants> {
        read("grants", Some(value)).ok()
    }

    #[test]
    fn an_object_takes_away_and_a_list_gives() {
        let all = Grants::default();
        assert_eq!(read("grants", None), Ok(all));
        assert_eq!(of(&json!({})), Some(all));
        assert_eq!(of(&json!({"admin": false})), Some(Grants { admin: false, ..all }));
        assert_eq!(of(&json!({"media": []})), Some(Grants { media: Media::NONE, ..all }));
        let none = Grants { media: Media::ALL, ..Grants::NONE };
        assert_eq!(of(&json!([])), Some(none));
        assert_eq!(of(&json!(["join", "write"])), Some(Grants { join: true, write: true, ..none }));
    }

    #[test]
    fn unknown_words_give_nothing_and_take_nothing_in_silence() {
        let all = Grants::default();
        assert_eq!(of(&json!({"fly": true})), Some(all));
        assert_eq!(of(&json!({"fly": false})), None);
        assert_eq!(of(&json!(["fly"])), Some(Grants { media: Media::ALL, ..Grants::NONE }));
        assert_eq!(of(&json!({"write": null})), None);
        assert_eq!(of(&json!({"write": 0})), None);
        assert_eq!(of(&json!({"fly": {}})), None);
        assert_eq!(of(&json!({"media": {"video": true}})), None);
        assert_eq!(of(&json!({"media": true})), None);
        assert_eq!(
            media("media", Some(&json!(["smell", "audio"]))),
            Ok(Some(Media { audio: true, ..Media::NONE }))
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        for bits in 0..128_u32 {
            let bit = |at: u32| bits >> at & 1 == 1;
            let grants = Grants {
                role: None,
                join: bit(0),
                write: bit(1),
                moderate: bit(2),
                admin: bit(3),
                media: Media { video: bit(4), audio: bit(5), screen_share: bit(6) },
            };
            assert_eq!(of(&write(grants)), Some(grants));
        }
    }
}
