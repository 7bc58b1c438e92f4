#![doc = "The target of `domstat_fuzz::checker`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::checker::target(data));
