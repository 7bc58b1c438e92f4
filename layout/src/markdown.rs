//! The descriptor table as Markdown, for documents that must not drift from the code.

use core::fmt;

use crate::descriptor::{GROUP_RSVD, GROUP_UPDATED_NS, GroupDesc, Kind};
use crate::header::{HOST_KIND, dom, record};
use crate::record::RecordKind;
use crate::schema::{FIRST_PRIVATE, FieldKind, FieldUnit};

/// Displays as the Markdown tables of the latest revision: both headers, then every group.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayoutTable;

/// Rows of the dom header: offset, type, name, meaning.
pub const DOM_HEADER: &[(usize, &str, &str, &str)] = &[
    (dom::MAGIC, "u32", "magic", "\"DOM\" and 1, the incompatible ABI version; stored last"),
    (dom::DOM_SIZE, "u32", "dom_size", "length of the dom record as the producer was built"),
    (dom::VCPU_OFFS, "u32", "vcpu_offs", "start of the vcpu array, from the region start"),
    (dom::VCPU_SIZE, "u32", "vcpu_size", "length of one vcpu record as the producer was built"),
    (dom::VCPU_STRIDE, "u32", "vcpu_stride", "distance between vcpu records"),
    (dom::NR_VCPUS, "u32", "nr_vcpus", "records in the vcpu array"),
    (dom::STATS_ACTIVE, "u64", "stats_active", "one bit per group that is produced"),
    (dom::ALIGN, "u32", "align", "alignment of vcpu_offs and vcpu_stride, a power of two"),
    (dom::STATE, "u32", "state", "0 initializing, 1 live, 2 retired"),
    (dom::INCARNATION, "u64", "incarnation", "differs whenever the region is created anew"),
    (dom::NOTIFY, "u32", "notify", "bumped, then woken as a futex, on discrete events"),
    (dom::REVISION, "u32", "revision", "the producer's revision; information only"),
    (
        dom::CLOCK,
        "u32",
        "clock",
        "1 CLOCK_MONOTONIC, 2 CLOCK_BOOTTIME, 3 Xen system time, 0 unknown",
    ),
    (dom::ARCH_DOM_OFFS, "u32", "arch_dom_offs", "start of the domain's arch slot (revision 4)"),
    (dom::ARCH_DOM_SIZE, "u32", "arch_dom_size", "its length"),
    (
        dom::ARCH_VCPU_OFFS,
        "u32",
        "arch_vcpu_offs",
        "start of a vCPU's arch slot in the stride of its record (revision 4)",
    ),
    (dom::ARCH_VCPU_SIZE, "u32", "arch_vcpu_size", "its length"),
    (dom::SCHEMA_OFFS, "u32", "schema_offs", "start of the schema (revision 4)"),
    (dom::SCHEMA_SIZE, "u32", "schema_size", "its length"),
    (dom::BLK_OFFS, "u32", "blk_offs", "start of the blk array (revision 2)"),
    (dom::BLK_SIZE, "u32", "blk_size", "length of one blk record as the producer was built"),
    (dom::BLK_STRIDE, "u32", "blk_stride", "distance between blk records"),
    (dom::NR_BLKS, "u32", "nr_blks", "records in the blk array"),
    (dom::NET_OFFS, "u32", "net_offs", "start of the net array (revision 4)"),
    (dom::NET_SIZE, "u32", "net_size", "length of one net record as the producer was built"),
    (dom::NET_STRIDE, "u32", "net_stride", "distance between net records"),
    (dom::NR_NETS, "u32", "nr_nets", "records in the net array"),
    (dom::UNUSED, "", "reserved", "zero, up to byte 128"),
];

/// Rows of an array record's header: offset, type, name, meaning.
pub const RECORD_HEADER: &[(usize, &str, &str, &str)] = &[
    (record::MAGIC, "u32", "magic", "of its kind, such as \"VCP\" and 1"),
    (record::INDEX, "u32", "index", "position of the record in its array"),
    (record::STATS_ACTIVE, "u64", "stats_active", "one bit per group that is produced"),
    (record::GENERATION, "u32", "generation", "bumped when the slot is given to something else"),
    (record::RESERVED, "", "reserved", "zero, up to byte 32"),
];

impl fmt::Display for LayoutTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::latest::{REV, REVISION};
        writeln!(f, "<!-- Generated from the descriptor table by ci/generated.sh --fix -->")?;
        writeln!(f, "# Layout of revision {REVISION}\n")?;
        for (kind, groups) in REV.records {
            if !groups.is_empty() {
                write!(f, "{} record: {} bytes. ", kind.name(), REV.size(*kind))?;
            }
        }
        writeln!(
            f,
            "In the header, words that are 0 from `arch_dom_offs` on say that the region has no \
             such part; the last five kinds are announced by the schema's table of records.\n"
        )?;
        header(f, "dom record, header", DOM_HEADER)?;
        header(f, "all other records, header", RECORD_HEADER)?;
        for group in REV.all_groups() {
            group_table(f, group)?;
        }
        registry(f)
    }
}

/// The numbers that a schema uses, and who gives them out.
fn registry(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "## Registry\n\n\
         Numbers are given out here alone and never used again. From {FIRST_PRIVATE:#x} on they are \
         private: never given out, and named by the schema of whoever uses one. Bits of \
         `stats_active` are given out by the tables of groups above; groups of one's own go into arch \
         slots and private kinds.\n"
    )?;
    writeln!(f, "| kind of record | name | magic | of each | meaning |\n|---|---|---|---|---|")?;
    for kind in RecordKind::ALL {
        let base = kind.base().map_or("", RecordKind::name);
        let (number, name, magic) = (kind.number(), kind.name(), kind.magic());
        writeln!(f, "| {number} | {name} | {magic:#010x} | {base} | {} |", kind.doc().trim())?;
    }
    writeln!(f, "| {HOST_KIND} | host | | | Reserved: a host's own region. |\n")?;
    for (what, rows) in [("field kind", FieldKind::REGISTRY), ("unit", FieldUnit::REGISTRY)] {
        writeln!(f, "| {what} | name | meaning |\n|---|---|---|")?;
        for (number, name, meaning) in rows {
            writeln!(f, "| {number} | {name} | {} |", meaning.trim())?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn header(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: &[(usize, &str, &str, &str)],
) -> fmt::Result {
    writeln!(f, "## {title}\n\n| offset | type | word | meaning |\n|---|---|---|---|")?;
    for (offset, ty, name, meaning) in rows {
        writeln!(f, "| {offset} | {ty} | {name} | {meaning} |")?;
    }
    writeln!(f)
}

fn group_table(f: &mut fmt::Formatter<'_>, g: &GroupDesc) -> fmt::Result {
    writeln!(
        f,
        "## {} record, bit {}: {} (revision {})\n",
        g.record.name(),
        g.bit,
        g.name,
        g.since
    )?;
    writeln!(f, "{}\n", g.doc.trim())?;
    if let Some(first) = g.twin_of {
        writeln!(f, "Twin of {}: written after it, with the same values.\n", first.name)?;
    }
    writeln!(f, "| offset | bytes | field | kind | unit | meaning |\n|---|---|---|---|---|---|")?;
    writeln!(f, "| {} | 4 | seq | | | odd: update in progress |", g.offset)?;
    writeln!(f, "| {} | 4 | rsvd | | | zero |", g.offset + GROUP_RSVD)?;
    writeln!(
        f,
        "| {} | 8 | updated_ns | instant | ns | time of the write, on the region's clock |",
        g.offset + GROUP_UPDATED_NS
    )?;
    for field in g.fields {
        write!(f, "| {} | {} | {} | {}", field.offset, field.width, field.name, field.kind.name())?;
        if let Kind::State(names) = field.kind {
            for (i, name) in names.iter().enumerate() {
                write!(f, "{} {i} {name}", if i == 0 { ":" } else { "," })?;
            }
        }
        writeln!(f, " | {} | {} |", field.unit.name(), field.doc.trim())?;
    }
    writeln!(f)
}
