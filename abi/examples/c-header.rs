//! Prints the C header of the revision whose number is given.

fn main() {
    let number = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    if let Some(revision) = domstat_layout::Revision::of(number) {
        print!("{}", domstat_abi::c_header(revision));
    }
}
