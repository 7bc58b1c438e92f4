#![doc = "The target of `domstat_fuzz::snapshot`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::snapshot::target(data));
