//! A program that does nothing, for comparison: what Rust's and C's libraries take.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("a directory is needed")?;
    println!("{}", std::path::Path::new(&dir).display());
    Ok(())
}
