//! Files change while no hub uses them, and directories are not what they should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk_hub::{DiskHub, VISNYK};
use crate::support::{TestHub, Tool, seq};

/// A log of events `0` to `count - 1`, one batch each, in one segment that was not closed.
async fn killed_log(count: usize) -> (DiskHub, PathBuf) {
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    for number in 0..count {
        hub.publish("a", &number.to_string()).await;
    }
    hub.kill().await.unwrap();
    let segment = disk.data_dir().join("00000000000000000001.log");
    (disk, segment)
}

/// The data of all events.
async fn events(hub: &TestHub) -> Vec<String> {
    hub.retained("channel=a", "earliest").await
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Where the batches of a segment begin, and where the last one ends.
fn batches(segment: &Path) -> Vec<usize> {
    let bytes = fs::read(segment).unwrap();
    let mut offsets = vec![HEADER_BYTES];
    while let Some(len) = bytes.get(offsets[offsets.len() - 1] + 8..) {
        let len = u32::from_le_bytes(len[..4].try_into().unwrap()) as usize;
        if len == 0 {
            break;
        }
        offsets.push(offsets[offsets.len() - 1] + HEADER_BYTES + len);
    }
    offsets
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    // In place: a directory that is put back is another matter.
    fs::write(path, bytes).unwrap();
}

/// The hub refuses to start and says each of these.
async fn assert_refused(disk: &DiskHub, says: &[&str]) {
    let output = tokio::process::Command::new(VISNYK)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(disk.data_dir())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(crate::support::PATIENCE, output).await.unwrap().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap();
    for part in says {
        assert!(last.contains(part), "no {part:?} in {text}");
    }
}

#[tokio::test]
async fn torn_tail_is_cut_off_wherever_it_was_torn() {
    let (mut disk, segment) = killed_log(6).await;
    let offsets = batches(&segment);
    let whole = fs::read(&segment).unwrap();
    let (last, end) = (offsets[5], offsets[6]);
    let copy = disk.scratch().join("before");
    fs::create_dir(&copy).unwrap();
    for name in ["meta", "00000000000000000001.log"] {
        fs::copy(disk.data_dir().join(name), copy.join(name)).unwrap();
    }
    // Within its header, behind it, within its items, and all but one byte; the file cut there, or
    // zeros behind.
    for at in [last + 1, last + 63, last + HEADER_BYTES, last + HEADER_BYTES + 9, end - 1] {
        for zeros in [false, true] {
            for entry in fs::read_dir(disk.data_dir()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            fs::copy(copy.join("meta"), disk.data_dir().join("meta")).unwrap();
            let mut torn = whole[..at].to_vec();
            if zeros {
                torn.resize(whole.len(), 0);
            }
            fs::write(&segment, torn).unwrap();
            let mut hub = disk.start().await;
            assert_eq!(events(&hub).await, numbers(5), "torn at {at}");
            let torn_bytes = hub.metric("visnyk_disk_torn_bytes").await;
            assert!(torn_bytes > 0.0 && torn_bytes <= (at - last) as f64, "{torn_bytes} at {at}");
            let next = hub.publish("a", "next").await;
            assert!(seq(&next) > 6, "the seq of the torn event is not given out again");
            // It does not come back after the next crash.
            hub.kill().await.unwrap();
            let mut hub = disk.start().await;
            assert_eq!(events(&hub).await, [numbers(5), vec!["next".into()]].concat());
            assert_eq!(hub.metric("visnyk_disk_torn_bytes").await, 0.0);
            hub.kill().await.unwrap();
        }
    }
}

#[tokio::test]
async fn flipped_bytes_are_refused_with_the_file_the_byte_and_the_last_event() {
    let (mut disk, segment) = killed_log(6).await;
    let offsets = batches(&segment);
    for (batch, flipped) in [
        (1, offsets[1] + 3),
        (1, offsets[1] + 20),
        (2, offsets[2] + HEADER_BYTES),
        (3, offsets[4] - 1),
    ] {
        change(&segment, |bytes| bytes[flipped] ^= 0x10);
        let byte = format!("byte {}:", offsets[batch]);
        let last = format!("The last event before it is {batch}.");
        let says = ["did not start", "00000000000000000001.log is damaged", &byte, &last, "verify"];
        assert_refused(&disk, &says).await;
        change(&segment, |bytes| bytes[flipped] ^= 0x10);
    }
    change(&segment, |bytes| bytes[12] ^= 1);
    assert_refused(&disk, &["00000000000000000001.log is damaged at byte 0"]).await;
    change(&segment, |bytes| bytes[12] ^= 1);
    // Nothing was changed by the refusals.
    let hub = disk.start().await;
    assert_eq!(events(&hub).await, numbers(6));
}

#[tokio::test]
async fn damage_to_the_end_of_a_log_that_was_closed_is_not_taken_for_a_torn_write() {
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    for number in 0..3 {
        hub.publish("a", &number.to_string()).await;
    }
    hub.terminate().unwrap();
    hub.wait(crate::support::PATIENCE).await.unwrap();
    let segment = disk.data_dir().join("00000000000000000001.log");
    let whole = fs::read(&segment).unwrap();
    change(&segment, |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_refused(&disk, &["damaged", "The last event before it is 2"]).await;
    change(&segment, |bytes| bytes.truncate(whole.len() - 5));
    assert_refused(&disk, &["damaged", "The last event before it is 2"]).await;
    fs::remove_file(&segment).unwrap();
    assert_refused(&disk, &["damaged", "The last event before it is 0"]).await;
    fs::write(&segment, whole).unwrap();
    assert_eq!(events(&disk.start().await).await, numbers(3));
}

#[tokio::test]
async fn files_beside_the_segments_are_refused_when_they_are_damaged() {
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    hub.publish("a", "0").await;
    hub.terminate().unwrap();
    hub.wait(crate::support::PATIENCE).await.unwrap();
    for name in ["meta", "clean"] {
        let path = disk.data_dir().join(name);
        change(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
        assert_refused(&disk, &[&format!("{name} is damaged")]).await;
        change(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    }
    // What is missing of what can be made anew is made anew.
    for name in ["spare", "reserve", "lock"] {
        let _ = fs::remove_file(disk.data_dir().join(name));
    }
    assert_eq!(events(&disk.start().await).await, numbers(1));
}

#[tokio::test]
async fn segment_that_is_missing_is_noticed() {
    let mut disk = DiskHub::new();
    for number in 0..3 {
        let mut hub = disk.start().await;
        hub.publish("a", &number.to_string()).await;
        hub.terminate().unwrap();
        hub.wait(crate::support::PATIENCE).await.unwrap();
    }
    for base in [1, 2, 3] {
        let path = disk.data_dir().join(format!("{base:020}.log"));
        let aside = disk.scratch().join("aside");
        fs::rename(&path, &aside).unwrap();
        assert_refused(&disk, &["damaged"]).await;
        fs::rename(&aside, &path).unwrap();
    }
    assert_eq!(events(&disk.start().await).await, numbers(3));
}

#[tokio::test]
async fn newer_format_is_refused_and_left_alone() {
    let (mut disk, _) = killed_log(1).await;
    let meta = disk.data_dir().join("meta");
    let before = fs::read(&meta).unwrap();
    change(&meta, |bytes| {
        let (head, body) = bytes.split_at_mut(16);
        body[0] += 1;
        head[4..8].copy_from_slice(&crc32c::crc32c_append(0x5615_6e79, body).to_le_bytes());
    });
    assert_refused(&disk, &["its format is 2, and this version reads 1"]).await;
    fs::write(&meta, before).unwrap();
    assert_eq!(events(&disk.start().await).await, numbers(1));
}

#[tokio::test]
async fn foreign_directory_is_left_alone() {
    let disk = DiskHub::new();
    fs::create_dir(disk.data_dir()).unwrap();
    fs::write(disk.data_dir().join("notes.txt"), "mine").unwrap();
    assert_refused(&disk, &["not the log of a hub", "`notes.txt`", "empty directory"]).await;
    let names: Vec<_> =
        fs::read_dir(disk.data_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["notes.txt"]);
}

#[tokio::test]
async fn copied_directory_is_refused_while_the_original_goes_on() {
    let (mut disk, _) = killed_log(2).await;
    let original = disk.data_dir().to_owned();
    let copy = disk.scratch().join("copy");
    assert!(Command::new("cp").arg("-a").args([&original, &copy]).status().unwrap().success());
    disk.move_to(copy);
    assert_refused(&disk, &["copied, restored or moved", "visnyk log import"]).await;
    disk.move_to(original);
    assert_eq!(events(&disk.start().await).await, numbers(2));
}

/// The hub cannot notice it, as docs/durability.md says; the import that is asked for there makes a
/// gap of it.
#[tokio::test]
async fn an_older_copy_put_back_in_place_is_a_gap_after_its_import() {
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    hub.publish("a", "0").await;
    hub.kill().await.unwrap();
    let (original, copy) = (disk.data_dir().to_owned(), disk.scratch().join("copy"));
    assert!(Command::new("cp").arg("-a").args([&original, &copy]).status().unwrap().success());
    let mut hub = disk.start().await;
    let later = hub.publish("a", "lost with it").await;
    hub.kill().await.unwrap();
    let put_back = "rm \"$0\"/* && cp -a \"$1\"/. \"$0\"";
    let shell = Command::new("sh").arg("-c").arg(put_back).args([&original, &copy]).status();
    assert!(shell.unwrap().success());
    let mut import = Command::new(VISNYK);
    import.args(["log", "import", "--data-dir"]).arg(&original);
    assert!(import.output().unwrap().status.success());
    let hub = disk.start().await;
    assert_eq!(events(&hub).await, numbers(1));
    assert_eq!(hub.poll_now("channel=a", &later).await["gap"]["reason"], "epoch");
}

#[tokio::test]
async fn second_process_on_a_directory_is_refused_and_the_first_goes_on() {
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    hub.publish("a", "0").await;
    assert_refused(&disk, &["another hub uses it", &format!("process {}", hub.pid())]).await;
    hub.publish("a", "1").await;
    hub.kill().await.unwrap();
    // The lock ends with its process.
    assert_eq!(events(&disk.start().await).await, numbers(2));
}

#[tokio::test]
async fn read_only_directory_is_refused() {
    if !Tool::Mounts.is_there() {
        return;
    }
    let (mut disk, _) = killed_log(1).await;
    let directory = disk.data_dir().display().to_string();
    let script = format!(
        "exec unshare -m sh -c 'mount --bind {directory} {directory} && \
         mount -o remount,bind,ro {directory} && exec {VISNYK} \"$@\"' sh \"$@\""
    );
    disk.run_by(disk.script("read-only", &script));
    let said = disk.start_refused().await;
    assert!(said.contains(&directory) && said.contains("Read-only file system"), "{said}");
    disk.run_by(VISNYK);
    assert_eq!(events(&disk.start().await).await, numbers(1));
}

/// Of a segment, and of a batch.
const HEADER_BYTES: usize = 64;
