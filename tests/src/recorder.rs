//! Somebody on the network between guest and broker who hands on every byte and writes down what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::failure::Failure;

/// A relay that writes down what clients send.
pub struct Recorder {
    address: SocketAddr,
    /// One a connection.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Relays to the server at `url`, `http://HOST:PORT`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn before(url: &str) -> Result<Self, Failure> {
        let server = url.trim_start_matches("http://").to_owned();
        let socket = Path::new("a socket of the recorder");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::io(socket))?;
        let address = listener.local_addr().map_err(Failure::io(socket))?;
        let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let written = Arc::clone(&sent);
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(upstream) = TcpStream::connect(&server) {
                    relay(&client, &upstream, &written);
                }
            }
        });
        Ok(Self { address, sent })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The body of the last request that was posted to `path`.
    #[must_use]
    pub fn last_posted(&self, path: &str) -> Option<Vec<u8>> {
        let start = format!("POST {path} HTTP/1.1\r\n");
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().rev().find_map(|stream| body_after(stream, start.as_bytes()))
    }
}

/// The body behind the last request line `start` in a stream of HTTP/1.1 requests.
fn body_after(stream: &[u8], start: &[u8]) -> Option<Vec<u8>> {
    let request = stream.get(stream.windows(start.len()).rposition(|window| window == start)?..)?;
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(request.get(..end)?).to_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|length| length.trim().parse::<usize>().ok())?;
    request.get(end + 4..end + 4 + length).map(<[u8]>::to_vec)
}

fn relay(client: &TcpStream, server: &TcpStream, written: &Arc<Mutex<Vec<Vec<u8>>>>) {
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
    let number = {
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push(Vec::new());
        written.len() - 1
    };
    let written = Arc::clone(written);
    thread::spawn(move || {
        pump(from_client, to_server, |bytes| {
            if let Some(stream) = written.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                stream.extend_from_slice(bytes);
            }
        });
    });
    thread::spawn(move || pump(from_server, to_client, |_| ()));
}

/// Hands on bytes until either side has gone.
fn pump(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8])) {
    let mut block = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut block) {
        let bytes = block.get(..length).unwrap_or_default();
        // Written down before it is handed on: whoever has seen the answer finds the question here.
        note(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    // The other side may have gone already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_body_is_found_behind_its_own_head() {
        let stream = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\noneGET /b HTTP/1.1\r\n\r\nPOST /a HTTP/1.1\r\nhost: x\r\ncontent-length:3\r\n\r\ntwoPOST";
        assert_eq!(body_after(stream, b"POST /a HTTP/1.1\r\n").as_deref(), Some(b"two".as_slice()));
        assert_eq!(body_after(stream, b"POST /c HTTP/1.1\r\n"), None);
    }
}
