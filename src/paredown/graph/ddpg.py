"""Deep deterministic policy gradient for one action at each layer, from 0 to 1: what HAQ and AMC search with.

Lillicrap et al. 2016, arxiv:1509.02971; with the settings of He et al. 2018, arxiv:1802.03494, section 3 and appendix.
"""

import copy
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """An agent's settings. hidden: width of both hidden layers. tau: how fast the target networks follow.

    memory: transitions that are kept. batch: of them for one update. discount: of the reward of later layers. spread:
    standard deviation of the exploration noise; after each exploring episode it falls by the factor `decay`.
    """

    hidden: int = 300
    actor_lr: float = 1e-4
    critic_lr: float = 1e-3
    tau: float = 0.01
    memory: int = 2000
    batch: int = 64
    discount: float = 1.0
    spread: float = 0.5
    decay: float = 0.99


def truncated_normal(mean: float, spread: float, draw: torch.Generator) -> float:
    """Return a number from 0 to 1 of the normal distribution around `mean`, cut off at both ends: by its inverse.

    He et al. 2018, section 3.3: TN(μ, σ², 0, 1).
    """
    if spread <= 0:
        return min(1.0, max(0.0, mean))
    ends = torch.special.ndtr(torch.tensor([(0.0 - mean) / spread, (1.0 - mean) / spread], dtype=torch.float64))
    share = torch.rand(1, generator=draw, dtype=torch.float64)
    found = mean + spread * float(torch.special.ndtri(ends[0] + share * (ends[1] - ends[0])))
    return min(1.0, max(0.0, found))


def _network(inputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
    nn.init.uniform_(layers[-1].weight, -3e-3, 3e-3)  # type: ignore[arg-type]
    nn.init.uniform_(layers[-1].bias, -3e-3, 3e-3)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


class Agent:
    """An actor (state → action), a critic (state, action → value), their slow copies and a memory of transitions.

    All that is random comes from its seed; torch's own generator is left as it was.
    """

    def __init__(self, states: int, settings: Settings | None = None, seed: int = 0) -> None:
        self.settings = settings or Settings()
        self.draw = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = nn.Sequential(_network(states, self.settings.hidden), nn.Sigmoid())
            self.critic = _network(states + 1, self.settings.hidden)
        self.slow_actor, self.slow_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_steps = torch.optim.Adam(self.actor.parameters(), lr=self.settings.actor_lr)
        self.critic_steps = torch.optim.Adam(self.critic.parameters(), lr=self.settings.critic_lr)
        self.memory: deque[tuple[Tensor, float, float, Tensor, float]] = deque(maxlen=self.settings.memory)
        self.spread = self.settings.spread
        self.baseline: float | None = None

    def explore(self) -> float:
        """Return an action drawn evenly: what the first episodes take."""
        return float(torch.rand(1, generator=self.draw))

    @torch.no_grad()
    def act(self, state: Tensor, noisy: bool = True) -> float:
        """Return the actor's action in a state (1-D), with truncated normal noise around it unless told otherwise."""
        mean = float(self.actor(state[None])[0, 0])
        return truncated_normal(mean, self.spread, self.draw) if noisy else mean

    def remember(self, states: list[Tensor], actions: list[float], reward: float) -> None:
        """Store an episode: one transition for each layer, all with the reward that came at the end, less the baseline.

        The baseline is the exponential moving average of earlier episodes' rewards (He et al. 2018, section 3.3).
        """
        self.baseline = reward if self.baseline is None else 0.95 * self.baseline + 0.05 * reward
        for at, (state, action) in enumerate(zip(states, actions, strict=True)):
            last = at == len(states) - 1
            after = state if last else states[at + 1]
            self.memory.append((state, action, reward, after, 0.0 if last else 1.0))

    def learn(self, updates: int) -> None:
        """Take `updates` steps of critic and actor on batches from the memory, and let the slow copies follow."""
        for _ in range(updates):
            if len(self.memory) < self.settings.batch:
                return
            self._update(*self._batch())

    def calm(self) -> None:
        """Lower the noise: an exploring episode is over."""
        self.spread *= self.settings.decay

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        chosen = torch.randint(len(self.memory), (self.settings.batch,), generator=self.draw).tolist()
        rows = [self.memory[at] for at in chosen]
        state, after = torch.stack([r[0] for r in rows]), torch.stack([r[3] for r in rows])
        action, reward, going = (torch.tensor([[r[k]] for r in rows]) for k in (1, 2, 4))
        return state, action, reward - (self.baseline or 0.0), after, going

    def _update(self, state: Tensor, action: Tensor, reward: Tensor, after: Tensor, going: Tensor) -> None:
        """Critic: (reward + discount · Q'(s', μ'(s')) − Q(s, a))². Actor: along the gradient of Q(s, μ(s))."""
        with torch.no_grad():
            later = self.slow_critic(torch.cat([after, self.slow_actor(after)], 1))
            wanted = reward + self.settings.discount * going * later
        error = (self.critic(torch.cat([state, action], 1)) - wanted).square().mean()
        self.critic_steps.zero_grad()
        error.backward()
        self.critic_steps.step()
        value = -self.critic(torch.cat([state, self.actor(state)], 1)).mean()
        self.actor_steps.zero_grad()
        value.backward()
        self.actor_steps.step()
        with torch.no_grad():
            for slow, quick in ((self.slow_actor, self.actor), (self.slow_critic, self.critic)):
                for a, b in zip(slow.parameters(), quick.parameters(), strict=True):
                    a.lerp_(b, self.settings.tau)
