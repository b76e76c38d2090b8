//! Units in which backends count sectors.

/// A unit in which sectors are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// 512 bytes.
    Sector512,
    /// The sector size of the disk, as in the backend's key `sector-size`.
    SectorSize,
}

impl Unit {
    /// Returns its size in bytes, on a disk with that sector size.
    pub fn bytes(self, sector_size: u32) -> u32 {
        match self {
            Unit::Sector512 => 512,
            Unit::SectorSize => sector_size,
        }
    }
}

/// Units in which a backend counts. They matter only on disks whose sectors are not of 512 bytes:
/// until 2024 the header could be read in more than one way, and was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Units {
    /// Of the key `sectors`.
    pub sectors: Unit,
    /// Of a request's first sector, and of a discard's length.
    pub sector_number: Unit,
    /// Of the first and last sector within a segment's page.
    pub segment: Unit,
}

impl Units {
    /// As the header says today, and Linux has always done.
    pub const HEADER: Units = Units {
        sectors: Unit::Sector512,
        sector_number: Unit::Sector512,
        segment: Unit::Sector512,
    };
    /// QEMU, Windows and Unikraft.
    pub const QEMU: Units = Units {
        sectors: Unit::SectorSize,
        sector_number: Unit::SectorSize,
        segment: Unit::SectorSize,
    };
    /// FreeBSD.
    pub const FREEBSD: Units = Units {
        sectors: Unit::SectorSize,
        sector_number: Unit::SectorSize,
        segment: Unit::Sector512,
    };
    /// Mini-OS.
    pub const MINIOS: Units = Units {
        sectors: Unit::SectorSize,
        sector_number: Unit::Sector512,
        segment: Unit::Sector512,
    };
    /// tapdisk.
    pub const TAPDISK: Units = Units {
        sectors: Unit::Sector512,
        sector_number: Unit::SectorSize,
        segment: Unit::Sector512,
    };

    /// All sets with a name.
    pub const NAMED: [(&'static str, Units); 5] = [
        ("header", Units::HEADER),
        ("qemu", Units::QEMU),
        ("freebsd", Units::FREEBSD),
        ("minios", Units::MINIOS),
        ("tapdisk", Units::TAPDISK),
    ];

    /// Finds the set of that name.
    pub fn from_name(name: &str) -> Option<Units> {
        Units::NAMED.iter().find(|(named, _)| *named == name).map(|&(_, units)| units)
    }

    /// Returns the set's name, if it has one.
    pub fn name(&self) -> Option<&'static str> {
        Units::NAMED.iter().find(|(_, units)| units == self).map(|&(name, _)| name)
    }
}
