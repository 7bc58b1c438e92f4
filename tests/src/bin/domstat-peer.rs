//! The Rust sides of the cross-revision matrix, with the command lines of those in C:
//! `produce FILE packed|pages ALIGN REVISION`, `consume FILE REVISION`, `golden DIR`.

use std::error::Error;
use std::io::{Read, Write};

use domstat_consumer::Region;
use domstat_layout::Revision;
use domstat_tests::{golden, peer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["produce", file, placement, align, revision] => {
            let builder = peer::builder(revision.parse()?, *placement == "pages", align.parse()?);
            let mut created = builder.create_file(file)?;
            peer::fill(&mut created);
            let region = created.unpublished.publish()?;
            println!("ready");
            std::io::stdout().flush()?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
            region.retire();
        }
        ["consume", file, revision] => {
            let revision = Revision::of(revision.parse()?).ok_or("no such revision")?;
            for line in peer::print(&Region::open(file)?, revision) {
                println!("{line}");
            }
        }
        ["golden", dir] => golden::write(dir.as_ref())?,
        _ => return Err("produce FILE packed|pages ALIGN REV, consume FILE REV, golden DIR".into()),
    }
    Ok(())
}
