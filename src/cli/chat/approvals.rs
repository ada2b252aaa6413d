//! Calls of tools that wait for somebody's word, by the numbers under which they are shown. Pure.
//!
//! A number is given once and never again, so that nobody who types `/approve 2` late allows something else. What was
//! decided keeps its number for a while, to say what it was about.

use std::collections::BTreeMap;

use crate::wire::pb::room::v1::ToolApproval;

/// How many calls keep their numbers, decided ones included.
const KNOWN_MAX: usize = 200;

/// The calls of a room.
#[derive(Debug, Default)]
pub struct Approvals {
    known: BTreeMap<usize, Waiting>,
    seen: usize,
}

#[derive(Debug)]
struct Waiting {
    approval: ToolApproval,
    open: bool,
}

impl Approvals {
    /// These wait, and no others.
    pub fn state(&mut self, waiting: &[ToolApproval]) {
        self.known.values_mut().for_each(|known| known.open = false);
        waiting.iter().for_each(|approval| self.requested(approval));
    }

    /// Another one waits.
    pub fn requested(&mut self, approval: &ToolApproval) {
        let number = self.number(&approval.approval_id).unwrap_or_else(|| {
            self.seen += 1;
            self.seen
        });
        self.known.insert(number, Waiting { approval: approval.clone(), open: true });
        if self.known.len() > KNOWN_MAX {
            self.known.pop_first();
        }
    }

    /// One does not wait any more.
    pub fn decided(&mut self, id: &str) {
        if let Some(known) = self.known.values_mut().find(|known| known.approval.approval_id == id) {
            known.open = false;
        }
    }

    /// The number that was given last; 0: none.
    pub fn newest(&self) -> usize {
        self.seen
    }

    /// The number of a call.
    pub fn number(&self, id: &str) -> Option<usize> {
        self.known.iter().find(|(_, known)| known.approval.approval_id == id).map(|(number, _)| *number)
    }

    /// The call with this number, whether it waits or not.
    pub fn get(&self, number: usize) -> Option<&ToolApproval> {
        self.known.get(&number).map(|known| &known.approval)
    }

    /// Those that wait, with their numbers.
    pub fn open(&self) -> impl Iterator<Item = (usize, &ToolApproval)> {
        self.known.iter().filter(|(_, known)| known.open).map(|(number, known)| (*number, &known.approval))
    }

    /// Which one is meant: that with the number, or without one the only one. The error is for whoever typed it.
    pub fn meant(&self, number: Option<usize>) -> Result<&ToolApproval, String> {
        let open: Vec<(usize, &ToolApproval)> = self.open().collect();
        let list = || open.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ");
        match (number, open.as_slice()) {
            (_, []) => Err("nothing waits for approval".to_owned()),
            (None, [(_, only)]) => Ok(only),
            (None, _) => Err(format!("several calls wait for approval; say which: {}", list())),
            (Some(wanted), _) => open
                .iter()
                .find(|(number, _)| *number == wanted)
                .map(|(_, approval)| *approval)
                .ok_or_else(|| format!("no call {wanted} waits for approval; there are: {}", list())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(id: &str) -> ToolApproval {
        ToolApproval { approval_id: id.into(), ..Default::default() }
    }

    #[test]
    fn a_number_is_never_given_to_another_call() {
        let mut approvals = Approvals::default();
        assert_eq!(approvals.meant(None), Err("nothing waits for approval".into()));
        approvals.requested(&approval("a"));
        assert_eq!(approvals.meant(None).unwrap().approval_id, "a");
        approvals.requested(&approval("b"));
        assert_eq!(approvals.meant(None), Err("several calls wait for approval; say which: 1, 2".into()));
        approvals.decided("a");
        approvals.requested(&approval("c"));
        assert_eq!(approvals.meant(Some(1)), Err("no call 1 waits for approval; there are: 2, 3".into()));
        assert_eq!(approvals.meant(Some(3)).unwrap().approval_id, "c");
        assert_eq!((approvals.number("a"), approvals.get(1).is_some()), (Some(1), true));
        approvals.state(&[approval("d"), approval("c")]);
        let open: Vec<(usize, &str)> =
            approvals.open().map(|(number, open)| (number, open.approval_id.as_str())).collect();
        assert_eq!(open, [(3, "c"), (4, "d")]);
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut approvals = Approvals::default();
        for n in 0..KNOWN_MAX + 5 {
            approvals.requested(&approval(&n.to_string()));
        }
        assert_eq!((approvals.open().count(), approvals.seen), (KNOWN_MAX, KNOWN_MAX + 5));
    }
}
