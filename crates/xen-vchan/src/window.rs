//! The size of a terminal, which a client passes to its server beside the bytes.

use core::fmt;

/// Size of a terminal, in characters. Both counts are 1 to [`WindowSize::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSize {
    columns: u16,
    rows: u16,
}

impl WindowSize {
    /// The largest number of columns and of rows: more than any screen shows, and little enough
    /// that a program can hold a cell for each of them.
    pub const MAX: u16 = 2000;

    /// Returns `None` if either count is 0 or more than [`WindowSize::MAX`].
    pub const fn new(columns: u16, rows: u16) -> Option<Self> {
        let fits = columns > 0 && columns <= Self::MAX && rows > 0 && rows <= Self::MAX;
        if fits { Some(WindowSize { columns, rows }) } else { None }
    }

    /// The number of columns.
    pub const fn columns(self) -> u16 {
        self.columns
    }

    /// The number of rows.
    pub const fn rows(self) -> u16 {
        self.rows
    }

    /// Returns the word of the shared page.
    pub(crate) const fn to_word(self) -> u32 {
        (self.rows as u32) << 16 | self.columns as u32
    }

    /// Returns the size in a word of the shared page, which the peer wrote; `None` if there is
    /// none, or one that cannot be.
    pub(crate) const fn from_word(word: u32) -> Option<Self> {
        Self::new(word as u16, (word >> 16) as u16)
    }
}

impl fmt::Display for WindowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} columns and {} rows", self.columns, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn word_of_a_peer_is_a_possible_size_or_none(word: u32) {
            let possible = 1..=WindowSize::MAX;
            match WindowSize::from_word(word) {
                Some(size) => {
                    prop_assert!(possible.contains(&size.columns()) && possible.contains(&size.rows()));
                    prop_assert_eq!(size.to_word(), word);
                }
                None => prop_assert!(
                    !possible.contains(&(word as u16)) || !possible.contains(&((word >> 16) as u16))
                ),
            }
        }

        #[test]
        fn size_survives_its_word(columns in 1..=WindowSize::MAX, rows in 1..=WindowSize::MAX) {
            let size = WindowSize::new(columns, rows);
            prop_assert_eq!(size.and_then(|size| WindowSize::from_word(size.to_word())), size);
        }
    }

    #[test]
    fn empty_page_has_no_size() {
        assert_eq!(WindowSize::from_word(0), None);
    }
}
