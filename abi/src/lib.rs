//! Layouts as values: records, groups and fields of a revision, taken from the descriptor table, from
//! a region's own schema or from a C header; and the comparison that decides whether a build of one
//! understands a producer of another. Structures of other projects are compared by the layout that
//! a C compiler gives them ([`read_struct`], [`compare_structs`]).
//!
//! ```
//! use domstat_abi::{Abi, compare};
//! let (old, new) = (Abi::of_revision(1).unwrap(), Abi::of_revision(4).unwrap());
//! assert!(compare(&old, &new).is_compatible());
//! assert!(!compare(&new, &old).is_compatible(), "revisions only append");
//! ```

mod c_groups;
mod c_header;
mod c_matrix;
mod c_parse;
mod c_struct;
mod c_token;
mod compare;
mod constants;
mod draw;
mod from_layout;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use c_groups::c_groups;
pub use c_header::{c_header, c_record_name};
pub use c_matrix::{MatrixError, MatrixReport, check_c_matrix};
pub use c_parse::{HeaderError, parse_c_header};
pub use c_struct::{
    CStruct, Compiler, Member, StructError, StructRules, compare_structs, read_struct,
};
pub use compare::{Change, Comparison, compare};
pub use draw::{Shape, ascii, svg};

/// A layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abi {
    /// Its revision.
    pub revision: u32,
    /// Constants by their names without `DOMSTAT_`: magic numbers, values that are not numbers,
    /// states, clocks and what else a header defines. Bits and the names of a field's values are
    /// part of the group.
    pub constants: BTreeMap<String, String>,
    /// The headers of the dom record, of array records and of groups.
    pub headers: Vec<Header>,
    /// The kinds of record.
    pub records: Vec<Record>,
}

/// What a record or a group starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `dom_header`, `record_header` or `group_header`.
    pub name: String,
    /// Its length.
    pub size: usize,
    /// Its words in order of their offsets, without reserved ones.
    pub words: Vec<HeaderWord>,
}

/// A word of a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderWord {
    /// Its name.
    pub name: String,
    /// Start in the header.
    pub offset: usize,
    /// Length in bytes.
    pub width: usize,
}

/// A kind of record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name, such as `vcpu`.
    pub name: String,
    /// Bytes before the first group.
    pub header_len: usize,
    /// Its length.
    pub size: usize,
    /// Its groups, in order of their offsets.
    pub groups: Vec<Group>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its bit in `stats_active`.
    pub bit: u32,
    /// Start in the record.
    pub offset: usize,
    /// Length with header.
    pub size: usize,
    /// The revision that added it; 0 for one that was described at run time.
    pub since: u32,
    /// The bit of the group that it is a second copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin_of: Option<u32>,
    /// Its fields, in order of their offsets.
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Start in the record.
    pub offset: usize,
    /// Length in bytes.
    pub width: usize,
    /// How it behaves over time, such as `cumulative`.
    pub kind: String,
    /// Its unit with scale, such as `ns`; `-` for none.
    pub unit: String,
    /// Names of a state's values, from 0 on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
}

impl Abi {
    /// The header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Header> {
        self.headers.iter().find(|h| h.name == name)
    }

    /// The record with this name.
    #[must_use]
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|r| r.name == name)
    }
}

impl Record {
    /// The group with this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.name == name)
    }
}

impl Group {
    /// First byte after the group.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset.saturating_add(self.size)
    }
}

impl Field {
    /// First byte after the field.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset.saturating_add(self.width)
    }
}
