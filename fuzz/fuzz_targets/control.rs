#![doc = "The target of `domstat_fuzz::control`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::control::target(data));
