//! The domains whose clients a server takes.

use super::DomainArgument;
use std::fmt;
use std::str::FromStr;

/// Domains as the user names them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Domains {
    /// All but the server's own, also those that are yet to come.
    All,
    /// These, whenever they are there; at least one.
    These(Vec<DomainArgument>),
}

impl Domains {
    /// Returns the domain, if it is only one: a server of it ends with it.
    pub(crate) fn single(&self) -> Option<&DomainArgument> {
        match self {
            Domains::These(domains) if domains.len() == 1 => domains.first(),
            _ => None,
        }
    }

    /// Builds it of names, numbers and UUIDs. Fails if there is none, or an empty one.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let parse = |name: &'a str| match name {
            "" => Err("a domain's name is empty".to_string()),
            name => name.parse().map_err(|never| match never {}),
        };
        let domains: Vec<_> = names.into_iter().map(parse).collect::<Result<_, _>>()?;
        match domains.is_empty() {
            true => Err("no domain is named".into()),
            false => Ok(Domains::These(domains)),
        }
    }
}

impl FromStr for Domains {
    type Err = String;

    /// Takes `all`, or domains with commas between them. A domain that is named all has its UUID.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Domains::All),
            text => Domains::of(text.split(',')),
        }
    }
}

impl fmt::Display for Domains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domains::All => f.write_str("all"),
            Domains::These(domains) => {
                let names: Vec<String> = domains.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_platform::DomId;

    #[test]
    fn all_one_and_several_domains_are_told_apart() {
        let parse = |text: &str| text.parse::<Domains>();
        assert_eq!(parse("all"), Ok(Domains::All));
        let one = parse("2").unwrap();
        assert_eq!(one.single(), Some(&DomainArgument::Number(DomId(2))));
        let several = parse("2,echo,0b1a5e4c-1111-2222-3333-444455556666").unwrap();
        assert!(
            several.single().is_none() && matches!(&several, Domains::These(d) if d.len() == 3)
        );
        assert_eq!(several.to_string(), "2,echo,0b1a5e4c-1111-2222-3333-444455556666");
        for wrong in ["", ",", "2,", ",2"] {
            assert_eq!(parse(wrong), Err("a domain's name is empty".into()), "{wrong}");
        }
        assert_eq!(Domains::of([]), Err("no domain is named".into()));
    }
}
