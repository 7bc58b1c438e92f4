//! Waits for events of a domain until it ends, without polling: `events REGION`.

use std::error::Error;

use domstat_consumer::Attachment;
use domstat_consumer::watch::{Event, Events};

/// The number under which events of the domain arrive; a tool with many domains has many.
const KEY: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: events REGION")?;
    let attachment = Attachment::open(path)?;
    let mut events = Events::new()?;
    events.add(KEY, &attachment)?;
    while attachment.liveness().is_up() {
        for event in events.wait(None)? {
            match event {
                Event::Notified(_) => println!("the producer announced a change"),
                Event::ProducerExited(_) => println!("the producer exited"),
            }
        }
    }
    println!("the domain is {}", attachment.liveness().name());
    Ok(())
}
