#![doc = "The target of `domstat_fuzz::header`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::header::target(data));
