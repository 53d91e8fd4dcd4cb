//! Applications that fork and die while their child lives on.

use nic_tests::OnFailure;

use super::kills::seed;
use super::machine;
use super::residue::assert_nothing_is_left_of;
use super::scene::Scene;

#[test]
fn the_death_of_an_application_is_noticed_although_its_child_lives() {
    let _machine = machine();
    let seed = seed(3);
    let _shown = OnFailure(format!("NIC_SEED={seed}"));
    let mut scene = Scene::new(seed);
    let orphans: Vec<_> = (0..3).map(|load| scene.orphan(load)).collect();
    scene.settle();
    // The engines forget the parents while the children still have all that they had open.
    let (_folder, wire, _) = scene.end_all();
    drop(orphans);
    assert_nothing_is_left_of(wire);
}
