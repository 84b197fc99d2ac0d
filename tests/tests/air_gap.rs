//! A broker without a network: everything that it knows of both vendors was carried to it in one file.

mod world;

use std::fs;

use portcullis_tests::arguments;
use portcullis_tests::installation::{Installation, MODEL};
use portcullis_tests::machine::Tee;
use portcullis_tests::memory::Room;
use portcullis_tests::policy;
use portcullis_tests::programs::{Ended, Part, Programs};
use portcullis_tests::td;
use testbed::model::{self, Extras, ModelShape};
use testbed::snp::{Line, SoftPlatform};
use world::{EXECUTABLE, assert_exit, plaintext, text};

/// An installation under the roots of both vendors, with no folder of collateral and nobody to ask.
fn isolated(programs: Programs, room: &Room) -> Installation {
    let mut installation = Installation::new(programs, Tee::Snp);
    for kind in ["root", "publisher", "authority"] {
        installation.keygen(kind).unwrap();
    }
    installation.write("ark.der", &SoftPlatform::new(Line::Milan).ark_der()).unwrap();
    installation.write("intel-root.der", &td::today().root_der()).unwrap();
    let anchors = arguments!["--test-anchor", "Milan=ark.der", "--test-anchor", "Intel=intel-root.der"];
    let init = arguments!["init", "--data", "broker", "--name", "acme", "--root-key", "root.key"];
    assert_exit(&installation.programs().run(Part::Broker, init.into_iter().chain(anchors)).unwrap(), 0);
    fs::create_dir(installation.path("collateral")).unwrap();
    installation.configure().unwrap();
    let written = installation.read("broker/broker.toml").unwrap();
    let without = written.replace("\n[collateral]\nfolder = \"../collateral\"\n", "\n");
    assert_ne!(without, written);
    installation.write("broker/broker.toml", without.as_bytes()).unwrap();
    fs::remove_dir(installation.path("collateral")).unwrap();
    installation.start().unwrap();
    installation.write_guest("guest.toml", plaintext(room)).unwrap();
    let digest = installation.config_digest("guest.toml").unwrap();
    let [snp, tdx] = [Tee::Snp, Tee::Tdx].map(|tee| policy::accepting(tee, &[&digest]));
    let (_, tdx) = tdx.split_once("[tdx]").unwrap();
    installation.put_policy_text(1, &format!("{snp}\n[tdx]{tdx}")).unwrap();
    installation
}

/// What a connected machine would have fetched of both vendors.
fn fetch(installation: &Installation) {
    installation.write("fetched/milan.crl", &SoftPlatform::new(Line::Milan).crl_der(&[])).unwrap();
    for (name, bytes) in td::collateral(&td::today()) {
        installation.write(&format!("fetched/{name}"), &bytes).unwrap();
    }
}

#[test]
fn both_kinds_of_guest_are_released_to_by_what_came_in_one_bundle_and_outlives_a_restart() {
    let folder = tempfile::Builder::new().prefix("portcullis-test-").tempdir().unwrap();
    let room = Room::find(64 << 20).unwrap();
    let mut installation = isolated(Programs::new(EXECUTABLE, folder.path()), &room);
    let source = installation.path("plain");
    let files = model::write(&source, &ModelShape { seed: 1, shard_bytes: 300_000, extras: Extras::None }).unwrap();
    installation.seal(&source, MODEL, 1, "sealed").unwrap();
    installation.publish("sealed.record.json").unwrap();
    let tees = [(Tee::Snp, "snp.sock"), (Tee::Tdx, "tdx.sock")];
    let _agents = tees.map(|(tee, socket)| tee.genuine().start_agent(installation.programs(), socket).unwrap());
    let to = room.path().join("model");
    let unseal =
        |installation: &Installation, socket: &str| -> Ended { installation.unseal("guest.toml", socket, MODEL, "sealed", &to).unwrap() };
    for ((_, socket), code) in tees.iter().zip(["revocation-age", "tdx-collateral-missing"]) {
        let refused = unseal(&installation, socket);
        assert_exit(&refused, 3);
        assert_eq!(text(&refused, "/code"), code);
    }

    fetch(&installation);
    let export = arguments!["collateral", "export", "--from", "fetched", "--out", "carried.json", "--authority-key", "authority.key"];
    assert_exit(&installation.command(export).unwrap(), 0);
    assert_exit(&installation.command(arguments!["collateral", "import", "carried.json"]).unwrap(), 0);
    fs::remove_dir_all(installation.path("fetched")).unwrap();
    for restarted in [false, true] {
        if restarted {
            installation.stop().unwrap();
            installation.start().unwrap();
            installation.write_guest("guest.toml", plaintext(&room)).unwrap();
        }
        for (_, socket) in tees {
            assert_exit(&unseal(&installation, socket), 0);
            assert_eq!(model::read(&to).unwrap(), files);
            fs::remove_dir_all(&to).unwrap();
        }
    }
}
