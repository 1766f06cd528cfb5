//! Downloads from a hub on this machine, one that misbehaves too.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::hub::find_in;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
}

/// Status, further headers, and content, of which `sent` bytes are sent before the connection breaks.
struct Response {
    status: u16,
    headers: String,
    content: Vec<u8>,
    sent: usize,
}

impl Response {
    fn of(status: u16, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        Response { status, headers: String::new(), sent: content.len(), content }
    }
}

/// A server on a port of its own, for as long as the test runs.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request, usize) -> Response + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(vec![]));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&stream);
                let count = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                let Response { status, headers, content, sent } = answer(&request, count);
                let length = content.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content[..sent]));
            }
        });
        Server { url, requests }
    }

    /// A hub with these files, whose content is given by `answer` instead where that has something.
    fn hub(
        files: Vec<(&'static str, Vec<u8>)>,
        answer: impl Fn(&Request, usize) -> Option<Response> + Send + 'static,
    ) -> Self {
        Self::start(move |request, count| {
            if let Some(response) = answer(request, count) {
                return response;
            }
            if request.path == "/api/models/org/name/revision/main?blobs=true" {
                return Response::of(200, listing(&files).to_string());
            }
            let name = request.path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
            let file = files.iter().find(|(file, _)| Some(*file) == name);
            file.map_or(Response::of(404, "no"), |(_, content)| ranged(request, content))
        })
    }

    fn fetch(&self, cache: &Path, listener: &mut Listener<'_>) -> Result<()> {
        let hub = Hub { pause: Duration::ZERO, ..Hub::new(&self.url, None) };
        hub.fetch(&Id::parse("org/name").unwrap(), cache, listener)
    }

    /// The ranges that were asked for, of the file of that name.
    fn ranges(&self, name: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|r| r.path.ends_with(name)).map(|r| r.headers["range"].clone()).collect()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_string();
    let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_string())
    });
    Request { path, headers: headers.collect() }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listing(files: &[(&str, Vec<u8>)]) -> Value {
    let file = |(name, content): &(&str, Vec<u8>)| match *name {
        // As `git hash-object` calls it.
        "config.json" => {
            json!({"rfilename": name, "size": 5, "blobId": "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"})
        }
        _ => json!({"rfilename": name, "size": 1, "blobId": "f".repeat(40),
            "lfs": {"sha256": sha256(content), "size": content.len(), "pointerSize": 135}}),
    };
    json!({"sha": COMMIT, "siblings": files.iter().map(file).collect::<Vec<_>>()})
}

/// The part of the content that the request asks for.
fn ranged(request: &Request, content: &[u8]) -> Response {
    let range = request.headers["range"].strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
    Response::of(206, &content[range.parse::<usize>().unwrap()..])
}

/// A model of which the weights are larger than a step.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let weights = (0..700_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    vec![("config.json", b"hello".to_vec()), ("model.safetensors", weights), ("README.md", b"no".to_vec())]
}

fn silent(_: Step) -> Result<()> {
    Ok(())
}

fn snapshot(cache: &Path) -> Result<PathBuf> {
    find_in(Path::new("org/name"), Some(cache))
}

#[test]
fn a_model_is_fetched_once_and_found_after_that() {
    let (cache, server) = (tempfile::tempdir().unwrap(), Server::hub(files(), |_, _| None));
    let mut told = vec![];
    server
        .fetch(cache.path(), &mut |step| {
            if let Step::Bytes { done, total } = step {
                told.push((done, total));
            }
            Ok(())
        })
        .unwrap();
    let all = 5 + files()[1].1.len() as u64;
    assert!(told.is_sorted() && told.last() == Some(&(all, all)), "{told:?}");
    let snapshot = snapshot(cache.path()).unwrap();
    for (name, content) in &files()[..2] {
        assert!(fs::read(snapshot.join(name)).unwrap() == *content, "{name}");
    }
    assert!(!snapshot.join("README.md").exists());
    #[cfg(unix)]
    assert!(fs::read_link(snapshot.join("config.json")).unwrap().starts_with("../../blobs"));
    let before = server.requests.lock().unwrap().len();
    server.fetch(cache.path(), &mut silent).unwrap();
    assert_eq!(server.requests.lock().unwrap().len(), before + 1, "only the listing");
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::hub(files(), |request, count| {
        let first = count == 2 && request.path.ends_with(".safetensors");
        first.then(|| Response { sent: 1_000_000, ..ranged(request, &files()[1].1) })
    });
    server.fetch(cache.path(), &mut silent).unwrap();
    let ranges = server.ranges("model.safetensors");
    assert_eq!(ranges, ["bytes=0-", "bytes=1000000-"]);
    assert!(fs::read(snapshot(cache.path()).unwrap().join("model.safetensors")).unwrap() == files()[1].1);
}

#[test]
fn a_server_that_only_breaks_is_given_up() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::hub(files(), |request, _| {
        request.path.ends_with(".safetensors").then(|| Response { sent: 0, ..ranged(request, &files()[1].1) })
    });
    let error = server.fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(server.ranges("model.safetensors").len(), 6);
}

#[test]
fn what_was_interrupted_is_no_model_and_goes_on_later() {
    let (cache, server) = (tempfile::tempdir().unwrap(), Server::hub(files(), |_, _| None));
    let stop = server.fetch(cache.path(), &mut |step| match step {
        Step::Bytes { done, .. } if done > 600_000 => Err(Error::Interrupted),
        _ => Ok(()),
    });
    assert!(matches!(stop, Err(Error::Interrupted)));
    assert!(snapshot(cache.path()).is_err());
    server.fetch(cache.path(), &mut silent).unwrap();
    let ranges = server.ranges("model.safetensors");
    assert!(ranges.len() == 2 && ranges[0] == "bytes=0-" && ranges[1] != "bytes=0-", "{ranges:?}");
    assert!(fs::read(snapshot(cache.path()).unwrap().join("model.safetensors")).unwrap() == files()[1].1);
}

#[test]
fn ranges_that_a_server_ignores_do_no_harm() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::hub(files(), |request, count| {
        let weights = &files()[1].1;
        let whole = || match count {
            2 => Response { sent: 300_000, ..Response::of(200, weights.clone()) },
            _ => Response::of(200, weights.clone()),
        };
        request.path.ends_with(".safetensors").then(whole)
    });
    server.fetch(cache.path(), &mut silent).unwrap();
    assert!(fs::read(snapshot(cache.path()).unwrap().join("model.safetensors")).unwrap() == files()[1].1);
}

#[test]
fn content_that_is_not_what_was_promised_is_thrown_away() {
    for broken in ["config.json", "model.safetensors"] {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::hub(files(), move |request, _| {
            let content = &files().into_iter().find(|(name, _)| *name == broken).unwrap().1;
            let wrong = content.iter().rev().copied().collect::<Vec<_>>();
            request.path.ends_with(broken).then(|| ranged(request, &wrong))
        });
        let error = server.fetch(cache.path(), &mut silent).unwrap_err().to_string();
        assert!(error.contains(broken) && error.contains("content with digest"), "{error}");
        let left: Vec<_> = fs::read_dir(cache.path().join("models--org--name/blobs")).unwrap().collect();
        assert_eq!(left.len(), usize::from(broken == "model.safetensors"), "{left:?}");
        assert!(snapshot(cache.path()).is_err());
    }
}

#[test]
fn refusals_say_what_would_help() {
    for (status, token, expected) in [
        (401, None, "expected a model of the hub that is open to all, or a token in HF_TOKEN, found 401"),
        (403, Some("secret"), "expected a model of the hub that your token opens, found 403"),
        (404, None, "expected a model of the hub and a revision of it, found 404"),
    ] {
        let (cache, server) =
            (tempfile::tempdir().unwrap(), Server::start(move |_, _| Response::of(status, "")));
        let hub = Hub::new(&server.url, token.map(str::to_string));
        let error =
            hub.fetch(&Id::parse("org/name").unwrap(), cache.path(), &mut silent).unwrap_err().to_string();
        assert!(error.starts_with("org/name: ") && error.contains(expected), "{error}");
        assert!(!error.contains("secret"));
    }
    let server = Server::start(|_, _| Response::of(200, "{\"sha\": 1}"));
    let cache = tempfile::tempdir().unwrap();
    let error = server.fetch(cache.path(), &mut silent).unwrap_err().to_string();
    assert!(error.contains("expected a listing of a model's files"), "{error}");
}

#[test]
fn a_token_goes_to_the_hub_and_nowhere_else() {
    let store = Server::start(|request, _| ranged(request, &files()[1].1));
    // Another name of this machine is another host.
    let elsewhere = store.url.replace("127.0.0.1", "localhost");
    let server = Server::hub(files(), move |request, _| {
        let redirect =
            || Response { headers: format!("location: {elsewhere}/x\r\n"), ..Response::of(302, "") };
        request.path.ends_with(".safetensors").then(redirect)
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.url, Some("secret".into()));
    hub.fetch(&Id::parse("org/name").unwrap(), cache.path(), &mut silent).unwrap();
    let asked = |server: &Server| server.requests.lock().unwrap().clone();
    assert!(asked(&server).iter().all(|request| request.headers["authorization"] == "Bearer secret"));
    let [request] = &asked(&store)[..] else { panic!("one request") };
    assert!(!request.headers.contains_key("authorization") && request.headers["range"] == "bytes=0-");
}
