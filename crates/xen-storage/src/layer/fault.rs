//! `fault`: requests that fail, or are not done, by rule.

use super::{Dice, Kind, Layer, Request};
use crate::storage::Storage;
use std::io;
use std::ops::Range;
use std::sync::Mutex;

/// Which requests fail: those for which all that is said here holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rule {
    /// Of these kinds; of any, if none is named.
    pub kinds: Vec<Kind>,
    /// That touch these bytes of the disk.
    pub range: Option<Range<u64>>,
    /// Number of them of which the last fails.
    pub every: Option<u64>,
    /// Each of them with this probability, from 0 to 1.
    pub probability: Option<f64>,
    /// A write that fails is carried out in its first half.
    pub torn: bool,
    /// They are answered as if they were done. Not for reads, which have nothing to answer with.
    pub silent: bool,
}

/// Fails requests.
pub struct Fault {
    rule: Rule,
    state: Mutex<(u64, Dice)>,
}

impl Fault {
    /// Fails by this rule; the same `seed` makes the same decisions.
    pub fn new(rule: Rule, seed: u64) -> Self {
        Fault { rule, state: Mutex::new((0, Dice::new(seed))) }
    }

    fn strikes(&self, request: &Request<'_>) -> bool {
        let Rule { kinds, range, every, probability, .. } = &self.rule;
        let touched = request.range();
        let of_kind = kinds.is_empty() || kinds.contains(&request.kind());
        if !of_kind
            || range
                .as_ref()
                .is_some_and(|range| range.start >= touched.end || touched.start >= range.end)
        {
            return false;
        }
        let (count, dice) = &mut *self.state.lock().expect("no holder panics");
        *count += 1;
        every.is_none_or(|every| count.is_multiple_of(every))
            && probability.is_none_or(|p| dice.fraction() < p)
    }
}

impl Layer for Fault {
    /// Writes that are silently left out are not there afterwards either.
    fn outlives(&self) -> bool {
        !self.rule.silent
    }

    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        if !self.strikes(&request) {
            return request.pass(below);
        }
        let kind = request.kind().name();
        if let (true, Request::Write { at, from }) = (self.rule.torn, request) {
            let sector = below.info().sector_size as usize;
            below.write(at, &from[..from.len() / 2 / sector * sector])?;
        }
        if self.rule.silent {
            return Ok(());
        }
        Err(io::Error::other(format!("this {kind} fails by the rule of the fault layer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layered;
    use crate::storage::Ram;
    use std::sync::Arc;

    fn disk(rule: Rule) -> (Layered<Fault>, Arc<Ram>) {
        let below = Arc::new(Ram::new(1 << 20, 512));
        (Layered::new(Fault::new(rule, 1), below.clone()), below)
    }

    #[test]
    fn every_third_write_fails_and_no_read() {
        let (disk, _) = disk(Rule { kinds: vec![Kind::Write], every: Some(3), ..Rule::default() });
        let done: Vec<_> = (0..6).map(|_| disk.write(0, &[1; 512]).is_ok()).collect();
        assert_eq!(done, [true, true, false, true, true, false]);
        assert!((0..9).all(|_| disk.read(0, &mut [0; 512]).is_ok()));
    }

    #[test]
    fn a_bad_place_fails_always() {
        let (disk, _) = disk(Rule { range: Some(4096..8192), ..Rule::default() });
        assert!(disk.read(3584, &mut [0; 512]).is_ok() && disk.read(8192, &mut [0; 512]).is_ok());
        assert!(
            disk.read(3584, &mut [0; 1024]).is_err() && disk.discard(7680, 512, false).is_err()
        );
        assert!(disk.flush().is_ok());
    }

    #[test]
    fn a_torn_write_is_half_there() {
        let (disk, below) = disk(Rule { torn: true, ..Rule::default() });
        assert!(disk.write(0, &[1; 2048]).is_err());
        let mut bytes = [9; 2048];
        below.read(0, &mut bytes).unwrap();
        assert_eq!((bytes[1023], bytes[1024]), (1, 0));
    }

    #[test]
    fn what_fails_silently_is_answered_and_not_done() {
        let (disk, below) = disk(Rule {
            kinds: vec![Kind::Write],
            every: Some(2),
            silent: true,
            ..Rule::default()
        });
        assert!(disk.write(0, &[1; 512]).is_ok() && disk.write(0, &[2; 512]).is_ok());
        let mut bytes = [9; 512];
        below.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1; 512]);
    }

    #[test]
    fn a_probability_is_about_kept() {
        let (disk, _) = disk(Rule { probability: Some(0.1), ..Rule::default() });
        let failed = (0..10_000).filter(|_| disk.flush().is_err()).count();
        assert!((900..1100).contains(&failed), "{failed}");
    }
}
