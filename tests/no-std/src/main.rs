//! Proof that the layout crate needs neither std nor an allocator: a program without either
//! builds a region in a static buffer, publishes it, validates and reads it, and exits 0.
//! Any other exit code is the number of the step that failed; it links the C library for
//! start-up and memcpy, and nothing of Rust's but core.
#![allow(unsafe_code)]
#![no_std]
#![no_main]

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use domstat_layout::header::dom;
use domstat_layout::r1::{DOM_SIZE, Memory, VCPU_SIZE};
use domstat_layout::{DomHeader, Geometry, GeometryError, Group, ReadMem, WriteMem};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The prebuilt core library names it, though nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// The C library: start-up, and the memcpy that the compiler asks for.
#[link(name = "c")]
unsafe extern "C" {}

static REGION: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];

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
    Some(0)
}

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    run().unwrap_or(99)
}
