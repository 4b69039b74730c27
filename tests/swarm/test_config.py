"""Every layer of the configuration, its order, and what a mistake in it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from swarm.config import Config, NodeConfig, RunConfig, run_fields, run_fingerprint
from swarm.config_load import ConfigError, load_config
from swarm.model.sizes import SIZES

Write = Callable[[str], Path]
ADDRESS = "/ip4/203.0.113.7/tcp/7401/p2p/12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "swarm.toml"
        path.write_text(text)
        return path

    return to_file


def problems(*args: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(*args)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


class TestSchedule:
    @pytest.mark.parametrize(
        ("steps", "complaint"),
        [
            ("inner_steps = 5\noverlap_steps = 6", "overlap_steps: 6 is more than a round has; inner_steps is 5"),
            ("fragments = 5", "fragments: the model 'demo' has 4 layers; give at most as many"),
            ("decay_steps = 5", "decay_steps: nobody knows when to begin; set total_steps"),
            (
                "warmup_steps = 6\ntotal_steps = 10\ndecay_steps = 5",
                "6 warmup_steps and 5 decay_steps are more than the 10",
            ),
        ],
    )
    def test_a_decay_needs_its_place_in_the_plan(self, write: Write, steps: str, complaint: str) -> None:
        (line,) = problems(write(f"[run]\n{steps}\n"))
        assert complaint in line

    def test_its_parts_may_come_from_different_layers(self, write: Write) -> None:
        config = load_config(write("[run]\ndecay_steps = 5\n"), {"SWARM_RUN__TOTAL_STEPS": "90"})
        assert (config.run.decay_steps, config.run.total_steps) == (5, 90)

    @pytest.mark.parametrize(
        ("total_steps", "rounds", "last"),
        [(0, None, None), (0, 7, 7), (100, None, 10), (101, None, 11), (100, 7, 7), (100, 12, 10)],
    )
    def test_a_node_leaves_after_its_last_round_or_the_runs(
        self, total_steps: int, rounds: int | None, last: int | None
    ) -> None:
        config = Config(run=RunConfig(inner_steps=10, total_steps=total_steps), node=NodeConfig(rounds=rounds))
        assert config.last_round == last


class TestLayers:
    def test_nothing_given_is_the_default(self) -> None:
        assert load_config() == Config()

    def test_later_layers_win_key_by_key(self, write: Write) -> None:
        file = write("[node]\nport = 1\ndht_port = 2\nhost = '127.0.0.1'\n[run]\nseed = 5\n")
        environment = {"SWARM_NODE__PORT": "11", "SWARM_NODE__DHT_PORT": "12"}
        config = load_config(file, environment, {"node": {"port": 21, "name": None}})
        assert (config.node.port, config.node.dht_port, config.node.host) == (21, 12, "127.0.0.1")
        assert config.run.seed == 5

    def test_strings_of_the_environment_become_values(self) -> None:
        environment = {
            "SWARM_RUN__OUTER_LR": "1",
            "SWARM_NODE__FOUND": "true",
            "SWARM_NODE__ROUNDS": "8",
            "SWARM_NODE__BOOTSTRAP_PEERS": f"{ADDRESS}, {ADDRESS}",
            "SWARM_NODE__STATE_DIR": "~/swarm-state",
        }
        config = load_config(None, environment)
        assert config.run.outer_lr == 1.0
        assert config.node.found is True
        assert config.node.rounds == 8
        assert config.node.bootstrap_peers == (ADDRESS, ADDRESS)
        assert config.node.state_dir == Path.home() / "swarm-state"

    def test_other_and_empty_variables_are_ignored(self) -> None:
        assert load_config(None, {"SWARM_NODE_PORT": "tcp://10.0.0.1", "SWARM_NODE__PORT": "", "HOME": "/"}) == Config()

    def test_bootstrap_peers_are_a_list_in_the_file(self, write: Write) -> None:
        assert load_config(write(f"[node]\nbootstrap_peers = ['{ADDRESS}']")).node.bootstrap_peers == (ADDRESS,)


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("[node]\nprot = 1", "[node] prot: unknown key; did you mean port?"),
            ("[node]\ninner_steps = 1", "[node] inner_steps: unknown key; it belongs in [run]"),
            ("[run]\nzzz = 1", "[run] zzz: unknown key; known keys of [run]: name, model"),
            ("[node]\nport = '7400'", "[node] port: expected a whole number, not '7400'"),
            ("[node]\nport = true", "[node] port: expected a whole number, not True"),
            ("[node]\nport = 70000", "[node] port: expected at most 65535, not 70000"),
            ("[node]\nfound = 1", "[node] found: expected true or false, not 1"),
            ("[node]\nname = 1", "[node] name: expected a string in quotes, not 1"),
            ("[node]\nkey_file = 1", "[node] key_file: expected a path, not 1"),
            ("[node]\nbootstrap_peers = 1", "[node] bootstrap_peers: expected a list of strings, not 1"),
            ("[node]\nbootstrap_peers = ['host:1']", "'host:1' is no address like /ip4/"),
            ("[node]\ndevice = 'tpu'", "[node] device: expected cpu, cuda or cuda:N, not 'tpu'"),
            ("[run]\ncodec = 'int9'", "[run] codec: 'int9' is not known; allowed: int8, int4, int2, fp32"),
            ("[run]\nmodel = 'huge'", "[run] model: no model 'huge'; allowed: demo"),
            ("[run]\ndata = 'a:x'", "[run] data: 'a:x' is no source with a whole weight like `fineweb-edu:55`"),
            ("[run]\nname = ''", "[run] name: must not be empty"),
            (f"[run]\nname = '{'x' * 65}'", "[run] name: expected at most 64 characters, not 65"),
            ("[run]\nouter_lr = nan", "[run] outer_lr: expected a finite number, not nan"),
            ("[run]\nouter_lr = 0.0", "[run] outer_lr: expected more than 0.0, not 0.0"),
            ("[run]\nouter_momentum = 1.0", "[run] outer_momentum: expected less than 1.0, not 1.0"),
            ("[run]\ninner_steps = 0", "[run] inner_steps: expected at least 1, not 0"),
            ("[run]\ninner_lr = 'big'", "[run] inner_lr: expected a number, not 'big'"),
            ("[nod]\nport = 1", "unknown table 'nod'; did you mean [node]?"),
            ("[training]\nport = 1", "unknown table 'training'; the tables are [run] and [node]"),
            ("port = 1", "unknown key 'port' outside a table; it belongs under [node]"),
            ("node = 1", "node: expected a table, write [node] on a line of its own"),
            ("a b", "not TOML: "),
        ],
    )
    def test_one_line_names_file_field_and_remedy(self, write: Write, text: str, complaint: str) -> None:
        file = write(text)
        (line,) = problems(file)
        assert line.startswith(f"{file}: ")
        assert complaint in line

    def test_all_mistakes_are_told_at_once(self, write: Write) -> None:
        file = write("[node]\nport = 'x'\n[run]\nseed = -1\n")
        assert len(problems(file, {"SWARM_RUN__SEED": "y"}, {"node": {"dht_port": -1}})) == 4

    def test_the_environment_is_named(self) -> None:
        lines = problems(None, {"SWARM_NODE__PORT": "x", "SWARM_RUN__OUTRE_LR": "1", "SWARM_NODE__FOUND": "maybe"})
        assert set(lines) == {
            "SWARM_NODE__PORT (environment): expected a whole number, not 'x'",
            "SWARM_RUN__OUTRE_LR (environment): unknown key; did you mean OUTER_LR?",
            "SWARM_NODE__FOUND (environment): expected true or false, not 'maybe'",
        }

    def test_the_option_is_named(self) -> None:
        assert problems(None, {}, {"node": {"dht_port": 70000}}) == ["--dht-port: expected at most 65535, not 70000"]

    def test_a_missing_or_unreadable_file_is_named(self, tmp_path: Path) -> None:
        assert "No such file" in problems(tmp_path / "none.toml")[0]
        assert "directory" in problems(tmp_path)[0]
        (tmp_path / "{binary}.toml").write_bytes(b"\xff\xfe")
        assert "not UTF-8" in problems(tmp_path / "{binary}.toml")[0]

    def test_braces_in_the_file_name_are_just_a_name(self, tmp_path: Path) -> None:
        path = tmp_path / "{table}.toml"
        path.write_text("[node]\nport = 'x'")
        assert problems(path)[0].startswith(f"{path}: [node] port")


class TestTables:
    def test_tables_are_frozen(self) -> None:
        with pytest.raises(ValidationError):
            RunConfig().seed = 4  # type: ignore[misc]

    def test_a_node_may_found_a_run_if_it_knows_nobody_or_is_told_to(self) -> None:
        assert NodeConfig().may_found
        assert not NodeConfig(bootstrap_peers=(ADDRESS,)).may_found
        assert NodeConfig(bootstrap_peers=(ADDRESS,), found=True).may_found
        assert not NodeConfig(found=False).may_found

    def test_files_live_in_the_state_directory_unless_placed_elsewhere(self, tmp_path: Path) -> None:
        node = NodeConfig(state_dir=tmp_path)
        assert (node.key_path, node.events_path) == (tmp_path / "identity.key", tmp_path / "events.jsonl")
        assert NodeConfig(key_file=tmp_path / "k").key_path == tmp_path / "k"

    def test_every_codec_can_be_asked_for(self) -> None:
        codec = pytest.importorskip("ops.codec")
        assert set(RunConfig.model_fields["codec"].annotation.__args__) == set(codec.CODECS)  # type: ignore[union-attr]

    @pytest.mark.parametrize("name", SIZES)
    def test_every_model_can_be_asked_for(self, name: str) -> None:
        assert RunConfig(model=name).model == name


class TestFingerprint:
    def test_equal_runs_have_equal_fingerprints(self) -> None:
        assert run_fingerprint(RunConfig()) == run_fingerprint(RunConfig())
        assert len(run_fingerprint(RunConfig())) == 32

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "other"},
            {"model": "10m"},
            {"sequence_length": 64},
            {"batch_size": 3},
            {"inner_steps": 7},
            {"codec": "fp32"},
            {"seed": 1},
            {"min_peers": 2},
            {"founders": 2},
            {"outer_lr": 0.71},
            {"outer_momentum": 0.0},
            {"inner_lr": 1e-4},
            {"warmup_steps": 3},
            {"weight_decay": 0.0},
            {"grad_clip": 0.0},
            {"z_loss": 1e-4},
            {"total_steps": 100},
            {"decay_steps": 10},
            {"inner_optimizer": "muon"},
        ],
    )
    def test_every_field_counts(self, change: dict[str, object]) -> None:
        assert run_fingerprint(RunConfig(**change)) != run_fingerprint(RunConfig())  # type: ignore[arg-type]

    def test_fields_are_flat_and_name_the_data_and_the_model(self) -> None:
        fields = run_fields(RunConfig())
        assert all(isinstance(value, (str, int, float, bool)) for value in fields.values())
        assert len(str(fields["data.digest.embedded"])) == 64
        assert fields["data.weight.embedded from 0"] == 1
        assert fields["model.dim"] == SIZES["demo"].dim

    def test_spaces_and_the_order_of_sources_make_no_other_run(self) -> None:
        assert RunConfig(data=" embedded:3 ") == RunConfig()

    def test_a_whole_number_for_a_float_is_the_same_run(self, write: Write) -> None:
        one = load_config(write("[run]\nouter_lr = 1"))
        assert run_fingerprint(one.run) == run_fingerprint(RunConfig(outer_lr=1.0))
