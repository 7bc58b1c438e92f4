//! A region that is built, published, validated and read without std or an allocator.
#![allow(unsafe_code)]
#![no_std]

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use domstat_layout::header::dom;
use domstat_layout::r1::{DOM_SIZE, Memory, VCPU_GROUPS, VCPU_SIZE};
use domstat_layout::{
    CopiedGroups, DomHeader, Geometry, GeometryError, Group, ReadMem, RecordArray, RecordKind,
    WriteMem,
};

static REGION: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];
const COPIED: &CopiedGroups<1> = &CopiedGroups::of(VCPU_GROUPS);

/// Returns 0, or the number of the step that failed.
#[unsafe(no_mangle)]
pub extern "C" fn domstat_no_std() -> i32 {
    run().unwrap_or(99)
}

fn run() -> Option<i32> {
    let base = NonNull::from(&REGION).cast();
    // SAFETY: a static array of atomics, 4096 bytes, aligned to 8.
    let mem = unsafe { WriteMem::new(base, 4096) };
    // SAFETY: as above.
    let view = unsafe { ReadMem::new(base, 4096) };
    let header = DomHeader::load(view)?;
    if Geometry::validate(&header, view.len()) != Err(GeometryError::NotReady) {
        return Some(1);
    }
    mem.store_u32(dom::DOM_SIZE, u32::try_from(DOM_SIZE).ok()?)?;
    mem.store_u32(dom::VCPU_OFFS, 448)?;
    mem.store_u32(dom::VCPU_SIZE, u32::try_from(VCPU_SIZE).ok()?)?;
    mem.store_u32(dom::VCPU_STRIDE, 128)?;
    mem.store_u32(dom::NR_VCPUS, 2)?;
    let group = Memory::DESC;
    mem.group(group.offset, group.size)?.write(77, &[9; 10]);
    mem.publish()?;
    let geometry = Geometry::validate(&DomHeader::load(view)?, view.len()).ok()?;
    if geometry.vcpu_offset(1) != Some(576) || geometry.vcpu_offset(2).is_some() {
        return Some(2);
    }
    let mut words = [0; 10];
    let (seq, updated_ns, ()) =
        view.group(group.offset, group.size)?.try_read(&mut words, || ()).ok()?;
    if (seq, updated_ns, words) != (2, 77, [9; 10]) {
        return Some(3);
    }
    let mut records = [0; 2 * VCPU_SIZE / 8];
    let mut odd = 0;
    let array = RecordArray { kind: RecordKind::Vcpu, size: VCPU_SIZE, stride: 128 };
    let vcpus = view.sub(448, 256)?;
    vcpus.copy_records::<{ VCPU_SIZE / 8 }, 1>(array, COPIED, &mut records, |_, _| odd += 1);
    if odd != 0 || records != [0; 24] {
        return Some(4);
    }
    Some(0)
}
