//! Permissions of nodes.

use crate::Flaw;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use xen_platform::DomId;

/// Access of a domain to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing (`n`).
    None,
    /// Read it (`r`).
    Read,
    /// Write it, and create nodes below it (`w`).
    Write,
    /// Both (`b`).
    Both,
}

impl Access {
    /// The letter that stands for it in GET_PERMS and SET_PERMS.
    pub const fn letter(self) -> char {
        match self {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        }
    }

    fn from_letter(letter: u8) -> Option<Access> {
        [Access::None, Access::Read, Access::Write, Access::Both]
            .into_iter()
            .find(|a| a.letter() as u8 == letter)
    }
}

/// A node's permissions. A new node gets its parent's, with the domain that made it as the owner; a
/// node that others should not see needs its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permissions {
    /// May do everything, and change the permissions.
    pub owner: DomId,
    /// Access of every domain that is not named in `others`.
    pub default: Access,
    /// Access of single domains.
    pub others: Vec<(DomId, Access)>,
}

impl Permissions {
    /// For the owner alone.
    pub fn private(owner: DomId) -> Self {
        Permissions { owner, default: Access::None, others: Vec::new() }
    }

    /// For the owner, and `access` for one other domain.
    pub fn shared_with(owner: DomId, other: DomId, access: Access) -> Self {
        Permissions { owner, default: Access::None, others: [(other, access)].into() }
    }

    /// As SET_PERMS takes them: strings that each end with a NUL, the owner's first with the
    /// default's letter.
    pub(crate) fn encode(&self) -> String {
        let mut text = entry(self.owner, self.default);
        for &(domain, access) in &self.others {
            text.push_str(&entry(domain, access));
        }
        text
    }

    pub(crate) fn decode(entries: &[&str]) -> Result<Self, Flaw> {
        let mut entries = entries.iter().map(|text| parse_entry(text));
        let (owner, default) = entries.next().ok_or(Flaw::NoStrings)??;
        Ok(Permissions { owner, default, others: entries.collect::<Result<_, _>>()? })
    }
}

fn entry(domain: DomId, access: Access) -> String {
    format!("{}{domain}\0", access.letter())
}

fn parse_entry(text: &str) -> Result<(DomId, Access), Flaw> {
    let parsed = || {
        let (letter, number) = text.split_at_checked(1)?;
        let domain = crate::reply::number(number)?;
        Some((DomId(domain), Access::from_letter(letter.as_bytes()[0])?))
    };
    parsed().ok_or_else(|| Flaw::Permission(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_what_xenstored_expects() {
        let permissions = Permissions {
            owner: DomId(7),
            default: Access::None,
            others: vec![(DomId(0), Access::Read), (DomId(9), Access::Both)],
        };
        assert_eq!(permissions.encode(), "n7\0r0\0b9\0");
        assert_eq!(
            Permissions::shared_with(DomId(1), DomId(0), Access::Write).encode(),
            "n1\0w0\0"
        );
        assert_eq!(Permissions::private(DomId(3)).encode(), "n3\0");
    }

    #[test]
    fn wrong_entries_are_named() {
        assert_eq!(Permissions::decode(&[]), Err(Flaw::NoStrings));
        for wrong in ["", "n", "x3", "3", "n-1", "n+1", "n65536", "n1 ", "ä1"] {
            assert_eq!(
                Permissions::decode(&["n0", wrong]),
                Err(Flaw::Permission(wrong.into())),
                "{wrong}"
            );
        }
    }

    fn access() -> impl Strategy<Value = Access> {
        prop_oneof![Just(Access::None), Just(Access::Read), Just(Access::Write), Just(Access::Both)]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(
            owner: u16,
            default in access(),
            others in proptest::collection::vec((any::<u16>(), access()), 0..5),
        ) {
            let others = others.into_iter().map(|(domain, access)| (DomId(domain), access));
            let others = others.collect();
            let permissions = Permissions { owner: DomId(owner), default, others };
            let text = permissions.encode();
            let entries: Vec<&str> = text.split_terminator('\0').collect();
            prop_assert_eq!(Permissions::decode(&entries), Ok(permissions));
        }
    }
}
