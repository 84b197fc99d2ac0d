//! The guest's own collecting code against a real broker: over a fake configfs-tsm that is mounted by FUSE.

mod world;

use portcullis_tests::arguments;
use portcullis_tests::installation::MODEL;
use portcullis_tests::machine::Machine;
use portcullis_tests::programs::Ended;
use testbed::configfs::{FakeConfigfs, Fault, Mounted};
use world::{World, assert_exit, plaintext, text};

/// A mounted configfs of the genuine guest, and a configuration that names it. `None`, and one line, where there is no FUSE.
fn mount(world: &World) -> Option<Mounted> {
    let folder = world.installation.path("configfs");
    std::fs::create_dir(&folder).unwrap();
    match FakeConfigfs::new(Machine::default().guest()).mount(&folder) {
        Ok(mounted) => {
            let configuration = format!("evidence = \"configfs\"\nconfigfs = \"{}\"\n{}", folder.display(), plaintext(&world.room));
            world.installation.write_guest("configfs.toml", &configuration).unwrap();
            Some(mounted)
        }
        Err(skipped) => {
            println!("{skipped}");
            None
        }
    }
}

fn check(world: &World) -> Ended {
    let how = arguments!["check", "--config", "configfs.toml", "--json", "--retry-for", "0", "--model", MODEL];
    world.installation.guest(how).unwrap()
}

#[test]
fn a_guest_opens_its_model_on_evidence_that_it_collected_itself() {
    let world = World::with_model();
    let Some(mounted) = mount(&world) else { return };
    let to = world.to("model");
    let unseal = arguments!["unseal", "--config", "configfs.toml", "--model", MODEL, "--sealed", "sealed", "--to", &to];
    assert_exit(&world.installation.guest(unseal).unwrap(), 0);
    assert!(to.join("config.json").exists());
    assert!(mounted.generated() >= 1);
    assert!(mounted.instances().is_empty(), "a report instance was left behind");
}

#[test]
fn somebody_else_who_writes_in_between_costs_a_try_and_no_more() {
    let world = World::with_model();
    let Some(mounted) = mount(&world) else { return };
    mounted.add_fault(Fault::RivalAfterInblob { times: 1 });
    mounted.add_fault(Fault::RivalAfterOutblob { times: 1 });
    assert_exit(&check(&world), 0);
    assert!(mounted.generated() > 1);
}

#[test]
fn a_kernel_without_a_platform_gives_no_evidence_and_one_with_foreign_report_data_is_not_believed() {
    let world = World::with_model();
    let Some(mounted) = mount(&world) else { return };
    assert_exit(&check(&world), 0);
    mounted.add_fault(Fault::OtherReportData);
    let foreign = check(&world);
    assert_exit(&foreign, 6);
    drop(mounted);
    std::fs::remove_dir(world.installation.path("configfs")).unwrap();
    let Some(mounted) = mount(&world) else { return };
    mounted.add_fault(Fault::NoProvider);
    let none = check(&world);
    assert_exit(&none, 6);
    assert_ne!(text(&none, "/code"), text(&foreign, "/code"));
}
