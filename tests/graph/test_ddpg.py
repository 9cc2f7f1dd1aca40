"""The agent: its noise, its targets, and that it finds what pays."""

import pytest
import torch
from scipy.stats import truncnorm

from paredown.graph.ddpg import Agent, Settings, truncated_normal


@pytest.mark.parametrize(("mean", "spread"), [(0.5, 0.5), (0.05, 0.3), (1.0, 0.1)])
def test_noise_is_a_truncated_normal(mean: float, spread: float) -> None:
    draw = torch.Generator().manual_seed(0)
    found = torch.tensor([truncated_normal(mean, spread, draw) for _ in range(2000)])
    wanted = truncnorm((0 - mean) / spread, (1 - mean) / spread, mean, spread)
    assert found.min() >= 0 and found.max() <= 1
    assert float(found.mean()) == pytest.approx(wanted.mean(), abs=4 * wanted.std() / 2000**0.5)
    assert float(found.std()) == pytest.approx(wanted.std(), rel=0.1)
    assert truncated_normal(0.3, 0.0, draw) == 0.3


def test_an_episode_is_one_transition_a_layer_and_ends() -> None:
    agent = Agent(2, Settings(hidden=8))
    states = [torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])]
    agent.remember(states, [0.25, 0.75], 2.0)
    assert [row[1:3] for row in agent.memory] == [(0.25, 2.0), (0.75, 2.0)]
    assert torch.equal(agent.memory[0][3], states[1]) and [row[4] for row in agent.memory] == [1.0, 0.0]
    agent.remember(states, [0.0, 0.0], 0.0)
    assert agent.baseline == pytest.approx(0.95 * 2.0) and len(agent.memory) == 4


def test_the_critic_learns_the_reward_less_the_baseline() -> None:
    agent = Agent(1, Settings(hidden=16, critic_lr=1e-2, memory=64))
    for at in range(64):
        agent.remember([torch.tensor([0.5])], [at / 63], at / 63)
    agent.learn(300)
    with torch.no_grad():
        low, high = agent.critic(torch.tensor([[0.5, 0.0], [0.5, 1.0]]))[:, 0].tolist()
    assert high - low == pytest.approx(1, abs=0.25) and low == pytest.approx(-float(agent.baseline or 0), abs=0.25)


def test_it_finds_the_actions_that_pay() -> None:
    """Three layers; the reward is −Σ (a − wanted)²; within 150 episodes the actor is within 0.2 of each."""
    wanted, states = (0.8, 0.2, 0.6), [torch.eye(3)[k] for k in range(3)]
    agent = Agent(3, Settings(hidden=32, actor_lr=1e-3, critic_lr=1e-2, discount=0.0, decay=0.97), seed=0)
    for number in range(150):
        actions = [agent.explore() if number < 30 else agent.act(state) for state in states]
        agent.remember(states, actions, -sum((a - w) ** 2 for a, w in zip(actions, wanted, strict=True)))
        agent.learn(6)
        if number >= 30:
            agent.calm()
    assert [agent.act(state, noisy=False) for state in states] == pytest.approx(wanted, abs=0.2)


def test_it_repeats_and_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    agents = [Agent(4, Settings(hidden=8), seed=3) for _ in range(2)]
    assert agents[0].act(torch.ones(4)) == agents[1].act(torch.ones(4))
    assert agents[0].explore() == agents[1].explore()
    assert torch.equal(before, torch.get_rng_state())
