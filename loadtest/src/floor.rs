//! The floor: a server that does nothing but send.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

/// Serves on loopback until it is killed: a GET becomes a subscriber, the body of a POST is sent
/// to each of them. One thread, one request at a time.
pub(crate) fn serve(port: u16) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    eprintln!("listening on http://127.0.0.1:{port}");
    let mut subscribers: Vec<TcpStream> = Vec::new();
    let mut publishers: Vec<TcpStream> = Vec::new();
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    loop {
        let accepted = listener.accept();
        if let Ok((mut io, _)) = accepted {
            let _ = io.set_nonblocking(false);
            let _ = io.set_nodelay(true);
            let request = read_request(&mut io);
            if request.starts_with(b"GET") {
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n\n";
                let _ = io.write_all(head);
                let _ = io.set_nonblocking(true);
                subscribers.push(io);
            } else {
                send(&mut subscribers, &request);
                let _ = io.write_all(ANSWER);
                publishers.push(io);
            }
            continue;
        }
        // Publishers keep their connections and send one request after the other.
        let Some(publisher) = publishers.last_mut() else {
            std::thread::yield_now();
            continue;
        };
        let request = read_request(publisher);
        if request.is_empty() {
            publishers.pop();
            continue;
        }
        send(&mut subscribers, &request);
        let _ = publisher.write_all(ANSWER);
    }
}

fn send(subscribers: &mut [TcpStream], request: &[u8]) {
    let body = request.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    let mut frame = b"data: ".to_vec();
    frame.extend_from_slice(&request[body..]);
    frame.extend_from_slice(b"\n\n");
    for subscriber in subscribers {
        let _ = subscriber.write(&frame);
    }
}

fn read_request(io: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match io.read(&mut chunk) {
            Ok(0) | Err(_) => return Vec::new(),
            Ok(n) => request.extend_from_slice(&chunk[..n]),
        }
        let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse::<usize>().ok())
            .unwrap_or(0);
        if request.len() >= end + 4 + length {
            return request;
        }
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
