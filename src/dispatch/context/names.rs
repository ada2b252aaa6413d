//! Names that stand for more than one, and the ids that tell those apart.
//!
//! LLMs of a room differ in their names; people choose theirs freely, and may take that of somebody else, of an LLM, or
//! another one's id. Whoever shares a name, as a reader would see it, is told with the id, which the server has given
//! or checked. Nobody who is alone with a name is, unless the room is too large to be looked through.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    dispatch::plain::{line, quoted},
    domain::{
        mention,
        message::{Author, Message},
        room::Room,
    },
};

/// Members among whom names are compared: the room stands still meanwhile. In larger rooms everybody has an id.
const COMPARED_MAX: usize = 2000;

/// Who is called what.
#[derive(Debug, Clone, Default)]
pub(in crate::dispatch) struct Names {
    /// `None`: more than one is called so.
    owners: HashMap<Vec<char>, Option<Author>>,
    /// Nobody has looked.
    unknown: bool,
}

impl Names {
    /// The names of all who are in the room.
    pub(in crate::dispatch) fn of(room: &Room) -> Self {
        let mut names = Self { unknown: room.members.len() > COMPARED_MAX, ..Self::default() };
        if !names.unknown {
            for member in room.members.values() {
                names.add(&Author::User(member.id.clone()), &member.name);
            }
        }
        for llm in &room.llms {
            names.add(&Author::Llm(llm.id.clone()), &llm.display_name);
        }
        names
    }

    /// Also those of who has written these, who may have gone, or been called otherwise.
    pub(in crate::dispatch) fn and_of<'a>(mut self, messages: impl IntoIterator<Item = &'a Message>) -> Self {
        for message in messages {
            self.add(&message.author, &message.author_name);
        }
        self
    }

    /// Somebody as they are told: by name, and by id as well if that is not theirs alone.
    pub(in crate::dispatch) fn told(&self, who: &Author, name: &str) -> String {
        if self.is_alone(who, name) {
            return quoted(name);
        }
        format!("{} id {}", quoted(name), quoted(who.as_str()))
    }

    /// The same where quotation marks are around it anyway.
    pub(in crate::dispatch) fn bare(&self, who: &Author, name: &str) -> String {
        if self.is_alone(who, name) { line(name) } else { self.told(who, name) }
    }

    fn is_alone(&self, who: &Author, name: &str) -> bool {
        let compared = !self.unknown || matches!(who, Author::Llm(_));
        let owner = self.owners.get(&shown(name));
        compared && owner.is_none_or(|owner| owner.as_ref() == Some(who))
    }

    /// Several, each as they are [`Names::told`].
    pub(in crate::dispatch) fn list<'a>(
        &self,
        all: impl IntoIterator<Item = (&'a Author, &'a str)>,
    ) -> String {
        all.into_iter().map(|(who, name)| self.told(who, name)).collect::<Vec<_>>().join(", ")
    }

    /// Whether anybody is told with an id.
    pub(in crate::dispatch) fn has_ids(&self) -> bool {
        self.unknown || self.owners.values().any(Option::is_none)
    }

    fn add(&mut self, who: &Author, name: &str) {
        // An id is a name as well: most people are called by theirs.
        for name in [name, who.as_str()] {
            match self.owners.entry(shown(name)) {
                Entry::Vacant(free) => drop(free.insert(Some(who.clone()))),
                Entry::Occupied(mut taken) => {
                    if taken.get().as_ref() != Some(who) {
                        taken.insert(None);
                    }
                }
            }
        }
    }
}

/// A name as it is told, letter case and width not counted.
fn shown(name: &str) -> Vec<char> {
    mention::key(&line(name))
}
