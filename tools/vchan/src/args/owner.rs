//! The owner of a file, as chown(1) takes it.

use std::fs;
use std::str::FromStr;

/// A user and a group by their numbers; at least one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The user.
    pub user: Option<u32>,
    /// The group.
    pub group: Option<u32>,
}

impl FromStr for Owner {
    type Err = String;

    /// Takes `USER`, `USER:GROUP` or `:GROUP`; looks names up in `/etc/passwd` and `/etc/group`.
    fn from_str(text: &str) -> Result<Self, String> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        parse(text, &read("/etc/passwd"), &read("/etc/group"))
    }
}

fn parse(text: &str, users: &str, groups: &str) -> Result<Owner, String> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let number = |name: &str, table: &str, file: &str| match name {
        "" => Ok(None),
        name => find(name, table)
            .map(Some)
            .ok_or_else(|| format!("{file} has no {name}: name another, or give a number")),
    };
    match (number(user, users, "/etc/passwd")?, number(group, groups, "/etc/group")?) {
        (None, None) => Err("an owner is USER, USER:GROUP or :GROUP".into()),
        (user, group) => Ok(Owner { user, group }),
    }
}

/// Returns the third field of the line of `table` that begins with `name`, or `name` as a number.
fn find(name: &str, table: &str) -> Option<u32> {
    let entry = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut found =
        entry.filter(|fields| fields[0] == name).filter_map(|fields| fields.get(2)?.parse().ok());
    found.next().or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_users_and_groups_are_understood() {
        let parse = |text| parse(text, "root:x:0:0::/root:/bin/sh\nme:x:7:8\n", "staff:x:50:\n");
        let owner = |user, group| Ok(Owner { user, group });
        assert_eq!(parse("me"), owner(Some(7), None));
        assert_eq!(parse("root:staff"), owner(Some(0), Some(50)));
        assert_eq!(parse(":staff"), owner(None, Some(50)));
        assert_eq!(parse("1000:100"), owner(Some(1000), Some(100)));
        assert!(parse("nobody").unwrap_err().contains("/etc/passwd has no nobody"));
        assert!(parse("me:nobody").unwrap_err().contains("/etc/group has no nobody"));
        assert!(parse(":").is_err() && parse("").is_err());
    }
}
