//! Golden regions: what each revision's writer wrote, kept for ever, with a readable dump next to
//! each.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

use domstat_layout::header::dom;
use domstat_layout::schema::{FieldKind, FieldShape, FieldSpec, GroupSpec};
use domstat_layout::{Ns, REVISIONS, RecordKind, Revision, Word};

use crate::peer;

/// The names of all of them, without extension, with revision and placement.
pub fn all() -> impl Iterator<Item = (String, &'static Revision, bool)> {
    REVISIONS.iter().flat_map(|revision| {
        let name =
            |pages| format!("r{}-{}", revision.number, if pages { "pages" } else { "packed" });
        [false, true].map(|pages| (name(pages), *revision, pages))
    })
}

/// The bytes of a region as the writer of this revision writes them. The incarnation, which is
/// random, is 77.
///
/// # Errors
/// What the producer says.
pub fn bytes(revision: &Revision, pages: bool) -> io::Result<Vec<u8>> {
    let align = if pages { 4096 } else { 64 };
    let mut builder = peer::builder(revision.number, pages, align);
    if revision.arch_and_schema {
        let shape = FieldShape { kind: FieldKind::CUMULATIVE, ..FieldShape::PLAIN };
        let fields = [FieldSpec { name: "exits", shape }];
        let kvm = [GroupSpec { name: "kvm", fields: &fields }];
        let described = builder.arch_dom(&kvm).and_then(|b| b.arch_vcpu(&kvm));
        builder = described.map_err(io::Error::other)?;
        if revision.has(RecordKind::ArchBlk) {
            let described = builder.arch_blk(&kvm).and_then(|b| b.arch_net(&kvm));
            builder = described.map_err(io::Error::other)?;
        }
    }
    let mut created = builder.create_memfd().map_err(io::Error::other)?;
    peer::fill(&mut created);
    created.dom.write_arch(0, &[Word::from(5)], Ns(1));
    for vcpu in &mut created.vcpus {
        vcpu.write_arch(0, &[Word::from(6)], Ns(1));
    }
    for blk in &mut created.blks {
        blk.write_arch(0, &[Word::from(7)], Ns(1));
    }
    for net in &mut created.nets {
        net.write_arch(0, &[Word::from(8)], Ns(1));
    }
    let region = created.unpublished.publish().map_err(io::Error::other)?;
    let fd = region.as_fd().ok_or(io::ErrorKind::NotFound)?.try_clone_to_owned()?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd).read_to_end(&mut bytes)?;
    if let Some(word) = bytes.get_mut(dom::INCARNATION..dom::INCARNATION + 8) {
        word.copy_from_slice(&77u64.to_le_bytes());
    }
    Ok(bytes)
}

/// A readable dump: a line for each eight bytes that are not zero, as two u32, as a u64 and as
/// characters.
#[must_use]
pub fn dump(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes; words that are zero are left out\n", bytes.len());
    let (words, _) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate().filter(|(_, word)| **word != [0; 8]) {
        let [a, b, c, d, e, f, g, h] = *word;
        let halves = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
        let characters: String =
            word.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        let _ = writeln!(
            text,
            "{:>6}  {:08x} {:08x}  {:>20}  {characters}",
            i * 8,
            halves[0],
            halves[1],
            u64::from_le_bytes(*word),
        );
    }
    text
}

/// Writes every golden region that is not there yet. One that is there is never written again.
///
/// # Errors
/// What the file system says.
pub fn write(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (name, revision, pages) in all() {
        let path = dir.join(format!("{name}.bin"));
        if !path.exists() {
            let bytes = bytes(revision, pages)?;
            std::fs::write(path, &bytes)?;
            std::fs::write(dir.join(format!("{name}.txt")), dump(&bytes))?;
        }
    }
    Ok(())
}
