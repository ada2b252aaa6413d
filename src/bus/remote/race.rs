//! Finds a server that answers, of several: one that accepts and says nothing must not use up the time that a
//! connection may take.

use std::{future::Future, time::Duration};

use futures_util::{FutureExt as _, future::select_ok};

use super::LinkError;

/// The next server is tried beside those before it when they have said nothing for so long.
const HEAD_START: Duration = Duration::from_millis(100);

/// What the first server says that answers. One that refuses us is an answer; of those that are away, the last problem
/// is told. What is begun with the others is dropped.
pub(in crate::bus) async fn first_that_answers<S, T, F>(
    servers: Vec<S>,
    ask: impl Fn(S) -> F,
) -> Result<T, LinkError>
where
    T: Send,
    F: Future<Output = Result<T, LinkError>> + Send,
{
    let mut head_start = Duration::ZERO;
    let mut all = Vec::with_capacity(servers.len());
    for server in servers {
        let (begin, answer) = (tokio::time::sleep(head_start), ask(server));
        head_start += HEAD_START;
        let asked = async move {
            begin.await;
            match answer.await {
                Err(away @ LinkError::Away(_)) => Err(away),
                answer => Ok(answer),
            }
        };
        all.push(asked.boxed());
    }
    if all.is_empty() {
        return Err(LinkError::Away("bus.url names no server".to_owned()));
    }
    select_ok(all).await?.0
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Answers of servers by their names.
    async fn answer(server: &'static str) -> Result<&'static str, LinkError> {
        match server {
            "silent" => std::future::pending().await,
            "away" => Err(LinkError::Away(server.to_owned())),
            "strict" => Err(LinkError::Refused(server.to_owned())),
            _ => Ok(server),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn neither_silence_nor_absence_keeps_from_the_next() {
        let begun = Instant::now();
        assert_eq!(first_that_answers(vec!["a", "b"], answer).await.unwrap(), "a");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(first_that_answers(vec!["silent", "away", "c"], answer).await.unwrap(), "c");
        assert_eq!(begun.elapsed(), 2 * HEAD_START);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer_and_absence_is_none() {
        let error = first_that_answers(vec!["away", "strict", "d"], answer).await.unwrap_err();
        assert!(matches!(&error, LinkError::Refused(what) if what == "strict"), "{error}");
        let error = first_that_answers(vec!["away", "away"], answer).await.unwrap_err();
        assert!(matches!(&error, LinkError::Away(what) if what == "away"), "{error}");
        assert!(first_that_answers(vec![], answer).await.is_err());
    }
}
