//! Proof that the layout crate needs neither std nor an allocator: a program without either
//! builds a region in a static buffer, publishes it, validates and reads it, and exits 0.
//! Any other exit code is the number of the step that failed; it links the C library for
//! start-up and memcpy, and nothing of Rust's but core.
#![allow(unsafe_code)]
#![no_std]
#![no_main]

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

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    domstat_no_std::domstat_no_std()
}
