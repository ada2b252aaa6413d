//! Who may do what: every action, role and policy of a room, against the table that users read.
//!
//! `docs/permissions.md` is the expectation and the rules of the domain are what is tested: each case is one command
//! that takes certain actions, tried in every standing with every least role that a room may set for them.

mod cases;
mod tables;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use salon::domain::{
    decide::Aside,
    event::Event,
    permissions::{Action, Least},
    rejection::Code,
    room::{Role, Visibility},
};

use self::{
    cases::{Case, cases},
    world::{Standing, World},
};

/// The least role of each action in a public and in a private room, as the document says.
fn documented() -> BTreeMap<String, (Least, Least)> {
    let least = |text: &str| match text {
        "VIEWER" => Least::Role(Role::Viewer),
        "MEMBER" => Least::Role(Role::Member),
        "ADMIN" => Least::Role(Role::Admin),
        "nobody" => Least::Nobody,
        other => panic!("{other:?} is no role"),
    };
    tables::rows("actions")
        .into_iter()
        .map(|row| (row[0].clone(), (least(&row[1]), least(&row[2]))))
        .collect()
}

/// What is set for one action; `None`: nothing.
fn policies(action: Action) -> Vec<Option<Least>> {
    let all = [Role::Viewer, Role::Member, Role::Admin].map(Least::Role);
    let may = |least: &Least| action.check_least(*least).is_ok();
    std::iter::once(None).chain(all.into_iter().chain([Least::Nobody]).filter(may).map(Some)).collect()
}

fn is_refused(world: &World, case: &Case) -> bool {
    match world.decide(case) {
        Err(rejection) => rejection.code == Code::PermissionDenied,
        // It is posted all the same.
        Ok(decision) if case.actions.contains(&Action::MentionLlms) => {
            let without = decision.asides.iter().any(|aside| matches!(aside, Aside::Without(_)));
            let calls = decision.events.iter().any(
                |new| matches!(&new.event, Event::MessagePosted(message) if !message.mentions.is_empty()),
            );
            assert_ne!(without, calls, "{}", case.what);
            without
        }
        Ok(_) => false,
    }
}

#[test]
fn every_action_role_and_policy_is_as_the_document_says() {
    let documented = documented();
    let mut cells = 0;
    for visibility in [Visibility::Public, Visibility::Private] {
        for standing in Standing::ALL {
            let world = World::new(standing, visibility);
            for case in cases(&world) {
                for (changed, policy) in case
                    .actions
                    .iter()
                    .flat_map(|action| policies(*action).into_iter().map(move |p| (*action, p)))
                {
                    let world = world.with(changed, policy);
                    let least = |action: &Action| {
                        let (public, private) = documented[&format!("{action:?}")];
                        let usual = if visibility == Visibility::Public { public } else { private };
                        if *action == changed { policy.unwrap_or(usual) } else { usual }
                    };
                    let allowed = case.actions.iter().all(|action| {
                        standing.role().is_some_and(|role| least(action).allows(role))
                            && (standing != Standing::Muted || *action == Action::Read)
                    });
                    let what =
                        format!("{} by {standing:?}, {changed:?} {policy:?}, {visibility:?}", case.what);
                    assert_eq!(is_refused(&world, &case), !allowed, "{what}: {:?}", world.decide(&case));
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 1000, "only {cells} cells");
}

#[test]
fn every_action_and_every_command_has_a_case() {
    let world = World::new(Standing::Admin, Visibility::Public);
    let tried: BTreeSet<Action> = cases(&world).iter().flat_map(|case| case.actions.clone()).collect();
    assert_eq!(tried, Action::ALL.into());
    let named: BTreeSet<String> = tables::samples()
        .iter()
        .map(|command| salon::domain::permissions::commands::row(command).name.to_owned())
        .collect();
    assert_eq!(
        named,
        tables::variants(),
        "a new command needs a sample here, and with it a row in the document"
    );
    let of_cases: BTreeSet<String> = cases(&world)
        .iter()
        .map(|case| salon::domain::permissions::commands::row(&case.command).name.to_owned())
        .collect();
    let of_members: BTreeSet<String> = tables::samples()
        .iter()
        .map(salon::domain::permissions::commands::row)
        .filter(|row| matches!(row.needs, salon::domain::permissions::commands::Needs::AnyOf(_)))
        .map(|row| row.name.to_owned())
        .collect();
    assert_eq!(of_cases, of_members, "a new command of members needs a case");
}
