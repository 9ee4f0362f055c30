//! The disk is full: a small tmpfs in a mount namespace.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use visnyk_loadtest::Publisher;

use super::disk_hub::{DiskHub, VISNYK};
use super::traffic::{Crowd, Traffic};
use crate::support::{PATIENCE, Tool, seed};

/// A small file system that only processes of its namespace see.
struct SmallDisk {
    /// Keeps the namespace, and ends with the test.
    holder: Child,
    mount: PathBuf,
}

impl SmallDisk {
    /// Mounts it where `disk` has its log, and lets `disk` run there.
    async fn below(disk: &mut DiskHub, bytes: u64) -> Self {
        let mount = disk.scratch().join("small");
        fs::create_dir(&mount).unwrap();
        let path = mount.display();
        let script = format!("mount -t tmpfs -o size={bytes} tmpfs {path} && exec sleep 600");
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        let pid = holder.id();
        disk.move_to(mount.join("data"));
        disk.run_by(disk.script("inside", &format!("exec nsenter -m -t {pid} {VISNYK} \"$@\"")));
        let small = Self { holder, mount };
        let deadline = Instant::now() + PATIENCE;
        let mounts = format!("/proc/{pid}/mounts");
        while !fs::read_to_string(&mounts).unwrap().contains(&small.mount.display().to_string()) {
            assert!(Instant::now() < deadline, "it is not mounted");
            sleep(Duration::from_millis(10)).await;
        }
        small
    }

    /// As seen from outside the namespace.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.mount.strip_prefix("/").unwrap().join(name);
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.path("ballast")).unwrap();
        for size in [65_536, 4_096] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_refuses_publishes_and_nothing_else_until_there_is_room() {
    if !Tool::Mounts.is_there() {
        return;
    }
    let mut disk = DiskHub::new().set("limits.publish.outcome_wait_ms", "5000");
    let small = SmallDisk::below(&mut disk, 16 << 20).await;
    let mut hub = disk.start().await;
    hub.wait_for_line("tmpfs", PATIENCE).await.expect("a warning: it is gone with the machine");
    let crowd = Crowd { publishers: 4, followers: 12, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed()).await;
    for round in 0..3 {
        traffic.go_on(50).await;
        small.fill();
        hub.wait_for_metric("visnyk_disk_full", |full| full == 1.0).await;
        let answer = Publisher::new(hub.address()).publish("a", "refused").await.unwrap();
        assert_eq!(answer.status(), 507, "{}", answer.body);
        let retry = answer.head.field("retry-after").expect("when to come back");
        assert!(retry.parse::<u32>().unwrap() >= 1, "{retry}");
        // Subscribers go on.
        let info = hub.channel("a").await;
        assert!(info["events_retained"].as_u64().unwrap() > 0, "{info}");
        assert!(!hub.retained("channel=a", "earliest").await.is_empty());
        assert_eq!(hub.get("/readyz").await.status(), 200);
        if round == 1 {
            // A hub that starts on a full disk serves what it has.
            hub.kill().await.unwrap();
            hub = disk.start().await;
            assert!(!hub.retained("channel=a", "earliest").await.is_empty());
            hub.wait_for_metric("visnyk_disk_full", |full| full == 1.0).await;
        }
        small.make_room();
        hub.wait_for_metric("visnyk_disk_full", |full| full == 0.0).await;
    }
    traffic.go_on(50).await;
    println!("{}", traffic.check(&hub).await.summary());
}
