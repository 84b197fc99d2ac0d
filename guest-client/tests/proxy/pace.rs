//! What the proxy costs until the first byte: by hand, beside the upstream itself.
//!
//!     cargo test -p portcullis-guest-client --test proxy -- --ignored --nocapture pace

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::scene::Scene;

const ROUNDS: usize = 2000;

/// Asks for the stream: the time until its first event, with `connect` in it; the stream goes on to its end.
async fn first_event<S: AsyncRead + AsyncWrite + Unpin>(scene: &Scene, stream: &mut S, began: Instant) -> Duration {
    let request = format!("GET /v1/stream HTTP/1.1\r\nHost: localhost:{}\r\nTE: trailers\r\n\r\n", scene.upstream.port);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut text = Vec::new();
    read_to(stream, &mut text, b"data: 1\n\n").await;
    let took = began.elapsed();
    scene.upstream.open_gate(1);
    read_to(stream, &mut text, b"x-sum: 7\r\n\r\n").await;
    took
}

async fn read_to<S: AsyncRead + Unpin>(stream: &mut S, text: &mut Vec<u8>, wanted: &[u8]) {
    while !text.windows(wanted.len()).any(|window| window == wanted) {
        assert!(stream.read_buf(text).await.unwrap() > 0, "{}", String::from_utf8_lossy(text));
    }
}

fn show(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100];
    println!("| {what} | {:.0} | {:.0} | {:.0} |", micros(at(50)), micros(at(90)), micros(at(99)));
    at(50)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[test]
#[ignore = "it measures"]
fn pace_until_the_first_event() {
    let scene = Scene::new("");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(scene.upstream.ca()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = TcpStream::connect(("127.0.0.1", scene.upstream.port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut direct = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        let (mut plain, mut proxied) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.push(first_event(&scene, &mut direct, Instant::now()).await);
            let began = Instant::now();
            let mut stream = UnixStream::connect(&scene.socket).await.unwrap();
            proxied.push(first_event(&scene, &mut stream, began).await);
        }
        println!("| until the first event, microseconds | median | 90% | 99% |\n| --- | ---: | ---: | ---: |");
        let plain = show("upstream, its connection kept open", plain);
        let proxied = show("proxy, a new connection each time", proxied);
        println!("median overhead: {:.0} microseconds", micros(proxied.saturating_sub(plain)));
    });
}
