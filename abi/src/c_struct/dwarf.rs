//! Structures from a compiler's debugging information.

use gimli::{
    AttributeValue, DebuggingInformationEntry, DwAte, DwTag, EndianSlice, RunTimeEndian, UnitOffset,
};
use object::{Object, ObjectSection};

use super::{CStruct, Member};

/// The variable whose type is looked up.
pub(super) const VARIABLE: &str = "domstat_probe";
/// Structures inside structures: C compilers allow more, people do not write it.
const MAX_DEPTH: usize = 32;
/// Members of a structure, those of nested ones included.
const MAX_MEMBERS: usize = 65_536;

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;
type Unit<'a> = gimli::Unit<Reader<'a>>;
type Dwarf<'a> = gimli::Dwarf<Reader<'a>>;
type Entry<'a> = DebuggingInformationEntry<Reader<'a>>;

/// The structure that is the type of [`VARIABLE`] in an object file.
pub(super) fn structure(object: &[u8], name: &str) -> Result<CStruct, String> {
    let file = object::File::parse(object).map_err(|e| e.to_string())?;
    let is_big_endian = !file.is_little_endian();
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: gimli::SectionId| -> Result<Reader<'_>, gimli::Error> {
        let data = file.section_by_name(id.name()).and_then(|s| s.data().ok());
        Ok(EndianSlice::new(data.unwrap_or_default(), endian))
    };
    let text = |e: gimli::Error| e.to_string();
    let dwarf = Dwarf::load(section).map_err(text)?;
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(text)? {
        let unit = dwarf.unit(header).map_err(text)?;
        let walk = Walk { dwarf: &dwarf, unit: &unit, is_big_endian, members: Vec::new() };
        if let Some(found) = walk.variable(name)? {
            return Ok(found);
        }
    }
    Err("the compiler wrote none (it must know -gdwarf-5)".to_owned())
}

struct Walk<'a, 'd> {
    dwarf: &'d Dwarf<'a>,
    unit: &'d Unit<'a>,
    is_big_endian: bool,
    members: Vec<Member>,
}

/// A place in the outer structure.
#[derive(Clone)]
struct Place {
    path: String,
    bit_offset: u64,
    arrays: Vec<(u64, u64)>,
    depth: usize,
}

impl<'a> Walk<'a, '_> {
    fn variable(mut self, name: &str) -> Result<Option<CStruct>, String> {
        let mut entries = self.unit.entries();
        let mut found = None;
        while let Some(entry) = entries.next_dfs().map_err(|e| e.to_string())? {
            if entry.tag() == gimli::DW_TAG_variable
                && self.name(entry).as_deref() == Some(VARIABLE)
                && let Some(ty) = ty(entry)
            {
                found = Some(ty);
                break;
            }
        }
        let Some(at) = found else { return Ok(None) };
        let entry = self.stripped(at)?;
        if !matches!(entry.tag(), gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type) {
            return Err("it is not a structure".to_owned());
        }
        let size = number(&entry, gimli::DW_AT_byte_size).ok_or("it has no size")?;
        let start = Place { path: String::new(), bit_offset: 0, arrays: Vec::new(), depth: 0 };
        self.walk_members(entry.offset(), &start)?;
        self.members.sort_by_key(|member| member.bit_offset);
        Ok(Some(CStruct { name: name.to_owned(), size, members: self.members }))
    }

    fn entry(&self, at: UnitOffset) -> Result<Entry<'a>, String> {
        self.unit.entry(at).map_err(|e| e.to_string())
    }

    fn name(&self, entry: &Entry<'a>) -> Option<String> {
        let value = entry.attr_value(gimli::DW_AT_name)?;
        let text = self.dwarf.attr_string(self.unit, value).ok()?;
        Some(text.to_string_lossy().into_owned())
    }

    /// The type behind typedefs and qualifiers.
    fn stripped(&self, mut at: UnitOffset) -> Result<Entry<'a>, String> {
        for _ in 0..MAX_DEPTH {
            let entry = self.entry(at)?;
            if !matches!(
                entry.tag(),
                gimli::DW_TAG_typedef
                    | gimli::DW_TAG_const_type
                    | gimli::DW_TAG_volatile_type
                    | gimli::DW_TAG_atomic_type
                    | gimli::DW_TAG_restrict_type
            ) {
                return Ok(entry);
            }
            at = ty(&entry).ok_or("a typedef of void")?;
        }
        Err("its typedefs are too deep".to_owned())
    }

    fn children(&self, at: UnitOffset, tag: DwTag) -> Result<Vec<Entry<'a>>, String> {
        let text = |e: gimli::Error| e.to_string();
        let mut tree = self.unit.entries_tree(Some(at)).map_err(text)?;
        let mut children = tree.root().map_err(text)?.children();
        let mut found = Vec::new();
        while let Some(child) = children.next().map_err(text)? {
            if child.entry().tag() == tag {
                found.push(child.entry().clone());
            }
        }
        Ok(found)
    }

    fn walk_members(&mut self, of: UnitOffset, place: &Place) -> Result<(), String> {
        if place.depth > MAX_DEPTH || self.members.len() > MAX_MEMBERS {
            return Err("it is nested too deeply or has too many members".to_owned());
        }
        for member in self.children(of, gimli::DW_TAG_member)? {
            let bits = self.bit_offset(&member)?;
            let path = match (self.name(&member), place.path.as_str()) {
                (Some(name), "") => name,
                (Some(name), outer) => format!("{outer}.{name}"),
                // Members of an anonymous structure are members of the outer one.
                (None, outer) => outer.to_owned(),
            };
            let inner = Place {
                path,
                bit_offset: place.bit_offset + bits,
                arrays: place.arrays.clone(),
                depth: place.depth + 1,
            };
            let at = ty(&member).ok_or("a member without a type")?;
            self.walk_type(at, inner, number(&member, gimli::DW_AT_bit_size))?;
        }
        Ok(())
    }

    /// Where a member starts in its structure.
    fn bit_offset(&self, member: &Entry<'a>) -> Result<u64, String> {
        if let Some(bits) = number(member, gimli::DW_AT_data_bit_offset) {
            return Ok(bits);
        }
        let start = number(member, gimli::DW_AT_data_member_location).unwrap_or(0);
        let start = start.checked_mul(8).ok_or("a member that is too far away")?;
        // A bit-field in the older form: bits from the most significant one of its unit.
        let (Some(from_top), Some(bit_size)) =
            (number(member, gimli::DW_AT_bit_offset), number(member, gimli::DW_AT_bit_size))
        else {
            return Ok(start);
        };
        if self.is_big_endian {
            return Ok(start + from_top);
        }
        let unit = match number(member, gimli::DW_AT_byte_size) {
            Some(bytes) => bytes,
            None => self.size_of(ty(member).ok_or("a member without a type")?, 0)?,
        };
        let after = from_top.checked_add(bit_size).and_then(|used| (unit * 8).checked_sub(used));
        Ok(start + after.ok_or("a bit-field outside of its unit")?)
    }

    fn walk_type(
        &mut self,
        at: UnitOffset,
        mut place: Place,
        bit_size: Option<u64>,
    ) -> Result<(), String> {
        let entry = self.stripped(at)?;
        let mut bytes = number(&entry, gimli::DW_AT_byte_size);
        let mut values = Vec::new();
        let kind = match entry.tag() {
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                return self.walk_members(entry.offset(), &place);
            }
            gimli::DW_TAG_array_type => {
                let element = ty(&entry).ok_or("an array of nothing")?;
                let stride = self.size_of(element, 0)?;
                let ranges = self.children(entry.offset(), gimli::DW_TAG_subrange_type)?;
                let mut counts: Vec<(u64, u64)> =
                    ranges.iter().map(|range| (array_len(range), stride)).collect();
                // Of several dimensions, an outer one's elements are as long as the inner arrays.
                for i in (0..counts.len().saturating_sub(1)).rev() {
                    let inner = counts.get(i + 1).map_or(0, |(len, stride)| len * stride);
                    if let Some(outer) = counts.get_mut(i) {
                        outer.1 = inner;
                    }
                }
                place.arrays.extend(counts);
                place.path.push_str("[]");
                return self.walk_type(element, place, None);
            }
            gimli::DW_TAG_base_type => base_kind(&entry),
            gimli::DW_TAG_pointer_type => {
                bytes = bytes.or(Some(self.unit.encoding().address_size.into()));
                "pointer".to_owned()
            }
            gimli::DW_TAG_enumeration_type => {
                for value in self.children(entry.offset(), gimli::DW_TAG_enumerator)? {
                    let constant = value.attr_value(gimli::DW_AT_const_value);
                    let number = constant.and_then(|v| match v {
                        AttributeValue::Udata(n) => Some(n.into()),
                        other => other.sdata_value().map(i128::from),
                    });
                    values.push((self.name(&value).unwrap_or_default(), number.unwrap_or(0)));
                }
                "enum".to_owned()
            }
            tag => tag.static_string().unwrap_or("unknown").to_owned(),
        };
        let Place { path, bit_offset, arrays, .. } = place;
        let bit_size = bit_size.or(bytes.map(|n| n * 8)).unwrap_or(0);
        self.members.push(Member { path, bit_offset, bit_size, kind, arrays, values });
        Ok(())
    }

    fn size_of(&self, at: UnitOffset, depth: usize) -> Result<u64, String> {
        let entry = self.stripped(at)?;
        if let Some(size) = number(&entry, gimli::DW_AT_byte_size) {
            return Ok(size);
        }
        if entry.tag() == gimli::DW_TAG_pointer_type {
            return Ok(self.unit.encoding().address_size.into());
        }
        if entry.tag() == gimli::DW_TAG_array_type && depth < MAX_DEPTH {
            let element = ty(&entry).ok_or("an array of nothing")?;
            let ranges = self.children(entry.offset(), gimli::DW_TAG_subrange_type)?;
            let len = ranges.iter().map(array_len).try_fold(1u64, u64::checked_mul);
            let size = len.and_then(|len| len.checked_mul(self.size_of(element, depth + 1).ok()?));
            return size.ok_or_else(|| "an array that is too long".to_owned());
        }
        Err("an element without a size".to_owned())
    }
}

fn ty(entry: &Entry<'_>) -> Option<UnitOffset> {
    match entry.attr_value(gimli::DW_AT_type)? {
        AttributeValue::UnitRef(at) => Some(at),
        _ => None,
    }
}

fn number(entry: &Entry<'_>, name: gimli::DwAt) -> Option<u64> {
    entry.attr_value(name)?.udata_value()
}

/// The length of a dimension; 0 for a flexible one.
fn array_len(range: &Entry<'_>) -> u64 {
    let upper = || number(range, gimli::DW_AT_upper_bound).and_then(|n| n.checked_add(1));
    number(range, gimli::DW_AT_count).or_else(upper).unwrap_or(0)
}

fn base_kind(entry: &Entry<'_>) -> String {
    let encoding = match entry.attr_value(gimli::DW_AT_encoding) {
        Some(AttributeValue::Encoding(encoding)) => encoding,
        _ => DwAte(0),
    };
    let kind = match encoding {
        gimli::DW_ATE_unsigned => "unsigned",
        gimli::DW_ATE_signed => "signed",
        gimli::DW_ATE_signed_char | gimli::DW_ATE_unsigned_char => "char",
        gimli::DW_ATE_boolean => "bool",
        gimli::DW_ATE_float => "float",
        other => other.static_string().unwrap_or("unknown"),
    };
    kind.to_owned()
}
