//! A poll, its ballots and its tallies.

use std::collections::BTreeMap;

use crate::{
    clock::Timestamp,
    domain::{llm::LlmConfig, message::Author},
    ids::{LlmId, MessageId, OptionId, PollId, UserId},
};

/// One possible answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollOption {
    /// Unique in the poll.
    pub id: OptionId,
    /// What it says.
    pub text: String,
    /// More about it.
    pub description: String,
}

/// Everything one voter has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot {
    /// The voter's name when voting.
    pub voter_name: String,
    /// Never empty; one, unless the poll allows more.
    pub options: Vec<OptionId>,
    /// Why, if the voter said.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A poll of a room.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent choices of whoever asks, each named by its field"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Unique.
    pub id: PollId,
    /// The message that announced it.
    pub message_id: MessageId,
    /// Who asked.
    pub creator: Author,
    /// The creator's name when asking.
    pub creator_name: String,
    /// What is asked.
    pub question: String,
    /// 2 to 20.
    pub options: Vec<PollOption>,
    /// A ballot may name several options.
    pub allow_multiple: bool,
    /// No voter leaves the server.
    pub anonymous: bool,
    /// LLMs may not opt out.
    pub mandatory: bool,
    /// No votes are shown before the end.
    pub hide_results: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the server closes it.
    pub closes_at: Option<Timestamp>,
    /// When it was closed; `None`: it is open.
    pub closed_at: Option<Timestamp>,
    /// One for each voter.
    pub ballots: BTreeMap<Author, Ballot>,
    /// Fewer ballots are no result; 0: any number is.
    pub quorum: u32,
    /// LLMs that had to vote and did not.
    pub abstentions: Vec<Abstention>,
    /// On whose behalf an LLM asked.
    pub asked_by: Option<UserId>,
}

/// An LLM that had to vote and did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abstention {
    /// Which.
    pub llm_id: LlmId,
    /// Its name then.
    pub llm_name: String,
    /// Why, as far as is known.
    pub reason: String,
}

impl Poll {
    /// Whether votes are taken.
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// Whether votes must not be shown now.
    pub fn results_hidden(&self) -> bool {
        self.hide_results && self.is_open()
    }

    /// The same poll with nobody's vote in it: of those there may be a hundred thousand.
    #[must_use]
    pub fn blank(&self) -> Self {
        Self {
            id: self.id,
            message_id: self.message_id,
            creator: self.creator.clone(),
            creator_name: self.creator_name.clone(),
            question: self.question.clone(),
            options: self.options.clone(),
            allow_multiple: self.allow_multiple,
            anonymous: self.anonymous,
            mandatory: self.mandatory,
            hide_results: self.hide_results,
            created_at: self.created_at,
            closes_at: self.closes_at,
            closed_at: self.closed_at,
            ballots: BTreeMap::new(),
            quorum: self.quorum,
            abstentions: Vec::new(),
            asked_by: self.asked_by.clone(),
        }
    }

    /// Those of the room's LLMs that must vote, and have neither voted nor abstained.
    pub fn owing<'a>(&'a self, llms: &'a [LlmConfig]) -> impl Iterator<Item = &'a LlmConfig> {
        let must = self.is_open() && self.mandatory;
        llms.iter().filter(move |llm| {
            must && !self.abstentions.iter().any(|known| known.llm_id == llm.id)
                && !self.ballots.contains_key(&Author::Llm(llm.id.clone()))
        })
    }

    /// Whether there are as many ballots as it takes.
    pub fn quorum_reached(&self) -> bool {
        self.ballot_count() >= self.quorum
    }

    /// The option with this id.
    pub fn option(&self, id: &OptionId) -> Option<&PollOption> {
        self.options.iter().find(|o| &o.id == id)
    }

    /// Votes per option, in the order of the options.
    pub fn tallies(&self) -> Vec<(OptionId, u32)> {
        self.options.iter().map(|o| (o.id.clone(), self.votes_for(&o.id))).collect()
    }

    /// Votes for one option.
    pub fn votes_for(&self, id: &OptionId) -> u32 {
        let votes = self.ballots.values().filter(|b| b.options.contains(id)).count();
        u32::try_from(votes).unwrap_or(u32::MAX)
    }

    /// How many have voted.
    pub fn ballot_count(&self) -> u32 {
        u32::try_from(self.ballots.len()).unwrap_or(u32::MAX)
    }
}
