//! Fuzz targets for bytes that are read from disk: no bytes make a reader panic, not even under
//! valid checksums, and the items that can be read are those that were written.

use std::io;

use bytes::BufMut;

use super::{
    batch::{self, BatchEncoder, BatchHeader, BatchLink, Item, Items, checksum},
    directory::DirectoryFile,
    meta::Meta,
    removed::{RemovedEvents, RemovedLimits},
    segment::SegmentHeader,
    segment_reader::{Next, SegmentReader},
    writer::CleanEnd,
};
use crate::model::{Epoch, Position, Seq};

/// The items of a batch. Encoded again, they have the same bytes.
pub(crate) fn batches(data: &[u8]) {
    let position = Position { epoch: Epoch::from_u64(1), seq: Seq(1) };
    let mut encoder = BatchEncoder::default();
    encoder.begin();
    let mut items = Items(data);
    let mut known = 0;
    while let Some(item) = items.next() {
        match item {
            Some(Item::Event { time_ms, kind, channel, draft }) => {
                let frame = draft.finish(position);
                // Neither of the two may panic.
                let _ = (frame.event_type(), frame.data());
                encoder.event(time_ms, kind, channel.as_str(), &frame);
            }
            Some(Item::Key { key, events }) => encoder.key(&key, events as usize),
            None => break,
        }
        known = data.len() - items.0.len();
    }
    let link = BatchLink {
        epoch: position.epoch,
        first: position.seq,
        time_ms: 0,
        durable: Seq::ZERO,
        previous: 0,
        seed: SEED,
    };
    let (encoded, _) = encoder.finish(&link);
    assert_eq!(&encoded[BatchHeader::BYTES..], &data[..known]);
}

/// A segment with these bytes, as they are and with valid checksums. 0xA5 begins a batch.
pub(crate) fn segments(data: &[u8]) {
    if let Some(header) = SegmentHeader::decode(data) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    }
    let header = SegmentHeader { epoch: Epoch::from_u64(0), base: Seq(1), previous: 0, seed: SEED };
    let mut file = header.encode().to_vec();
    for part in data.split(|byte| *byte == 0xA5) {
        let (head, items) = part.split_at(part.len().min(BatchHeader::BYTES - 8));
        let mut sealed = [0; BatchHeader::BYTES - 8];
        sealed[..head.len()].copy_from_slice(head);
        let mut sums = &mut sealed[..8];
        sums.put_u32_le(items.len() as u32);
        sums.put_u32_le(checksum(SEED, items));
        file.put_u32_le(batch::MAGIC);
        file.put_u32_le(checksum(SEED, &sealed));
        file.put_slice(&sealed);
        file.put_slice(items);
    }
    read(&file, &header);
    let mut file = header.encode().to_vec();
    file.put_slice(data);
    read(&file, &header);
}

fn read(file: &[u8], header: &SegmentHeader) {
    let memory = Memory(file.to_vec());
    let mut reader = SegmentReader::new(&memory, header).expect("memory does not fail");
    let (mut at, mut last) = (reader.offset, reader.last);
    while let Next::Batches(batches) = reader.next().expect("memory does not fail") {
        for (begin, header, items) in batches.iter() {
            assert_eq!(begin, at);
            assert!(header.first > last && header.last() >= header.first);
            (at, last) = (at + (BatchHeader::BYTES + items.len()) as u64, header.last());
        }
        assert_eq!((reader.offset, reader.last), (at, last));
        reader.reuse(batches.into_buffer());
    }
    let proof = reader.find_proof_of_damage().expect("memory does not fail");
    assert!(proof.is_none_or(|header| header.durable > reader.last));
    let end = reader.end_of_data().expect("memory does not fail");
    assert!((reader.offset..=file.len() as u64).contains(&end));
    assert!(file[end as usize..].iter().all(|byte| *byte == 0));
}

/// The bodies of the small files.
pub(crate) fn small_files(data: &[u8]) {
    let _ = (CleanEnd::decode(data), Meta::decode(data));
    let Some(mut removed) = RemovedEvents::decode(data) else { return };
    let again = RemovedEvents::decode(&removed.encode()).expect("it was encoded");
    assert_eq!(again, removed);
    let limits =
        RemovedLimits { channels_max: 2, closed_ms: 10, closed_max: 2, keys_ms: 10, keys_max: 2 };
    removed.expire(&limits, 20);
    assert!(removed.lost().count() <= limits.channels_max);
    assert!(removed.closed().count() <= limits.closed_max);
    assert!(removed.keys().count() <= limits.keys_max);
}

/// A file that is not written to.
struct Memory(Vec<u8>);

impl DirectoryFile for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

const SEED: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    /// Few random inputs are nearly valid, so these are valid except for a few bytes.
    #[test]
    fn whatever_becomes_of_a_file_it_can_be_read() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
        let mut rng = fastrand::Rng::with_seed(1);
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 3] =
            [("batches", batches), ("segments", segments), ("small_files", small_files)];
        for (name, target) in targets {
            for file in std::fs::read_dir(seeds.join(name)).expect("a directory of seeds") {
                let seed = std::fs::read(file.expect("a directory").path()).expect("a seed");
                for _ in 0..500 {
                    let mut data = seed.clone();
                    for _ in 0..rng.usize(1..4) {
                        let at = rng.usize(..=data.len());
                        match rng.u8(..4) {
                            0 => data.truncate(at),
                            1 => data.insert(at, rng.u8(..)),
                            2 => data.extend_from_within(at..),
                            _ => {
                                if let Some(byte) = data.get_mut(at) {
                                    *byte = rng
                                        .choice([0, 1, 0xA5, 0xFF, rng.clone().u8(..)])
                                        .expect("five");
                                }
                            }
                        }
                    }
                    target(&data);
                }
            }
        }
    }
}
