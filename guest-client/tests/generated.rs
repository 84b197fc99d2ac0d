//! The code of the Workload API is what its `.proto` file says: made anew here, in Rust alone, and compared.
//!
//! `PORTCULLIS_REGENERATE=1 cargo test -p portcullis-guest-client --test generated` writes it.

use std::fs;
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/identity/workload_api");

/// Says who made it, for whoever opens it.
const HEAD: &str = "//! Made from workload.proto by guest-client/tests/generated.rs. Not to be edited.\n";

fn generate() -> String {
    let files = protox::compile(["workload.proto"], [FOLDER]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let configuration = tonic_prost_build::configure().build_client(false).build_transport(false).out_dir(folder.path());
    configuration.compile_fds(files).unwrap();
    // Without a package there is no name.
    HEAD.to_owned() + &fs::read_to_string(folder.path().join("_.rs")).unwrap()
}

#[test]
fn the_committed_code_is_what_the_proto_file_says() {
    let (path, made) = (Path::new(FOLDER).join("generated.rs"), generate());
    if std::env::var_os("PORTCULLIS_REGENERATE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == made, "{} is not what workload.proto says", path.display());
}
