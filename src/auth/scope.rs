//! What a credential may do besides what users do in rooms.
//!
//! Owns the closed list of scopes, and how far they reach. Never says what happens in a room: that is the room's rule,
//! which a scope only opens the door to. Pure: nothing here fails but reading a word that is no scope.

use std::fmt;

use crate::{auth::grants::Grants, ids::Namespace};

/// One thing that a credential may do. The names are those in API keys and in `salon admin key create --scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everything: all the others, API keys, and the namespaces themselves if it is the server's.
    Admin,
    /// Identities: create, list, change, rotate, revoke.
    Identities,
    /// Tokens: make them for users, revoke them and what users have.
    Tokens,
    /// Rooms are read in the name of any user.
    RoomsRead,
    /// Rooms are written to in the name of any user.
    RoomsWrite,
    /// The audit is read.
    Audit,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::Identities, Self::Tokens, Self::RoomsRead, Self::RoomsWrite, Self::Audit];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Identities => "identities",
            Self::Tokens => "tokens",
            Self::RoomsRead => "rooms.read",
            Self::RoomsWrite => "rooms.write",
            Self::Audit => "audit",
        }
    }

    /// The scope of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    fn bit(self) -> u8 {
        match self {
            Self::Admin => 1,
            Self::Identities => 1 << 1,
            Self::Tokens => 1 << 2,
            Self::RoomsRead => 1 << 3,
            Self::RoomsWrite => 1 << 4,
            Self::Audit => 1 << 5,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);

    /// Whether this is allowed. [`Scope::Admin`] allows everything.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether all of `other` is allowed: nobody makes a key that may do more than its maker.
    pub fn cover(self, other: Self) -> bool {
        other.iter().all(|scope| self.allow(scope))
    }

    /// The scopes themselves.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// What its holder may do in rooms, at most.
    pub fn grants(self) -> Grants {
        let write = self.allow(Scope::RoomsWrite);
        if write {
            return Grants::default();
        }
        Grants { join: self.allow(Scope::RoomsRead), ..Grants::NONE }
    }
}

/// What a credential may do besides what users do in rooms, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Powers {
    /// What.
    pub scopes: Scopes,
    /// Whether in all namespaces; else in the credential's own.
    pub everywhere: bool,
}

impl Powers {
    /// Of most credentials.
    pub const NONE: Self = Self { scopes: Scopes::NONE, everywhere: false };

    /// Of the owner of a namespace: everything in it but its rooms, which are their members'.
    pub fn owner() -> Self {
        Self { scopes: Scopes::from_iter([Scope::Admin]), everywhere: false }
    }

    /// Of the server's administrator.
    pub fn server() -> Self {
        Self { scopes: Scopes::from_iter([Scope::Admin]), everywhere: true }
    }

    /// Whether this is allowed in `namespace` to a credential of the namespace `own`.
    pub fn allow(self, scope: Scope, own: &Namespace, namespace: &Namespace) -> bool {
        self.scopes.allow(scope) && (self.everywhere || own == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_a_name_and_a_bit_of_its_own() {
        let mut all = Scopes::NONE;
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert!(!all.iter().any(|other| other == scope));
            all = all.iter().chain([scope]).collect();
        }
        assert_eq!(all.iter().count(), Scope::ALL.len());
        assert_eq!(Scope::parse("Admin"), None);
    }

    #[test]
    fn admin_allows_everything_and_others_themselves() {
        let admin = Scopes::from_iter([Scope::Admin]);
        let reader = Scopes::from_iter([Scope::RoomsRead]);
        for scope in Scope::ALL {
            assert!(admin.allow(scope));
            assert_eq!(reader.allow(scope), scope == Scope::RoomsRead);
            assert!(!Scopes::NONE.allow(scope));
        }
        assert!(admin.cover(reader) && reader.cover(Scopes::NONE));
        assert!(!reader.cover(admin));
        let grants = reader.grants();
        assert!(grants.join && !grants.write && !grants.moderate && !grants.admin);
        assert_eq!(Scopes::NONE.grants(), Grants::NONE);
    }

    #[test]
    fn powers_end_at_the_namespace_unless_they_are_the_servers() {
        let (own, other) = (Namespace::parse("acme").unwrap(), Namespace::default());
        assert!(Powers::owner().allow(Scope::Identities, &own, &own));
        assert!(!Powers::owner().allow(Scope::Identities, &own, &other));
        assert!(Powers::server().allow(Scope::Identities, &own, &other));
        assert!(!Powers::NONE.allow(Scope::Identities, &own, &own));
    }
}
