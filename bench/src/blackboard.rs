//! `iceoryx2`'s blackboard: one key of a service in shared memory.

use iceoryx2::port::reader::EntryHandle;
use iceoryx2::port::writer::EntryHandleMut;
use iceoryx2::prelude::*;

use crate::peers::{Peer, Read, Write};

type Service = ipc_threadsafe::Service;

/// `iceoryx2`'s blackboard.
pub struct Blackboard;
/// Its writer.
pub struct BlackboardWriter<const N: usize>(EntryHandleMut<Service, u64, [u64; N]>);
/// Its reader.
pub struct BlackboardReader<const N: usize>(EntryHandle<Service, u64, [u64; N]>);

impl<const N: usize> Peer<N> for Blackboard {
    type Writer = BlackboardWriter<N>;
    type Reader = BlackboardReader<N>;
    const NAME: &'static str = "iceoryx2 blackboard";
    fn pair() -> (BlackboardWriter<N>, BlackboardReader<N>) {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new().create::<Service>().expect("a node");
        let name = format!("domstat-bench/{}/{N}/{}", std::process::id(), uniquely());
        let name = name.as_str().try_into().expect("a name");
        let service = node
            .service_builder(&name)
            .blackboard_creator::<u64>()
            .add::<[u64; N]>(0, [0; N])
            .create()
            .expect("a service");
        let writer = service.writer_builder().create().expect("a writer");
        let reader = service.reader_builder().create().expect("a reader");
        let handles =
            (writer.entry::<[u64; N]>(&0).expect("the key"), reader.entry(&0).expect("the key"));
        (BlackboardWriter(handles.0), BlackboardReader(handles.1))
    }
}

fn uniquely() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<const N: usize> Write<N> for BlackboardWriter<N> {
    fn write(&mut self, from: &[u64; N]) {
        self.0.update_with_copy(*from);
    }
}

impl<const N: usize> Read<N> for BlackboardReader<N> {
    fn read(&mut self, to: &mut [u64; N]) -> u64 {
        *to = *self.0.get();
        0
    }
}
