#![doc = "The target of `domstat_fuzz::rfc_v3`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::rfc_v3::target(data));
