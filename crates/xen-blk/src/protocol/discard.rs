//! Parameters of discards.

/// Parameters of a backend's discards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscardInfo {
    /// Size of a unit of discards, in bytes.
    pub granularity: u32,
    /// Offset of the first such unit, in bytes.
    pub alignment: u32,
    /// It offers secure discards, after which no means exists to read the old contents.
    pub secure: bool,
}
