"""The engine: requests in, deltas out, one step at a time, in one thread.

    engine = Engine(model, tokenizer=tokenizer, config=EngineConfig())
    engine.add(prompt_ids, SamplingParams(max_tokens=64))
    while engine.has_work:
        for delta in engine.step(): ...

A step is: schedule -> run the decoder -> sample all rows -> accept tokens -> (draft). With drafts, each row is sampled
as if it stood alone; a draft counts if it is what was sampled. So text, and every draw, are those without drafts.
"""

import itertools
import secrets
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.base.seeds import derive_seed
from godwit.engine.config import EngineConfig
from godwit.engine.grammar import GrammarCompiler, apply_mask
from godwit.engine.outputs import Delta, EngineStats, FinishReason, TokenLogprob
from godwit.engine.params import SamplingParams
from godwit.engine.prefix import PrefixCache
from godwit.engine.request import Choice, Request
from godwit.engine.runner import Call, Runner
from godwit.engine.sampler import Row, logprobs_of, sample
from godwit.engine.scheduler import Scheduler, Work
from godwit.engine.text import OutputText
from godwit.models.decoder import Decoder
from godwit.models.draft import Drafter
from godwit.nn.pages import PAGE, pages_for
from godwit.text.tokenizer import Tokenizer


class Engine:
    """Continuous batching over one model.

    Args:
        model: the decoder, in evaluation mode; its weights are the engine's until `swap_weights`.
        tokenizer: of the model.
        config: see `EngineConfig`.

    Raises:
        GodwitError: settings that do not fit the model.
    """

    def __init__(self, model: Decoder, *, tokenizer: Tokenizer, config: EngineConfig):
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config
        if config.speculate and config.deterministic and model.lm_head_weight.device.type != "cpu":
            raise GodwitError("deterministic mode cannot speculate on this device; set speculate to 0")
        longest = model.config.max_position_embeddings
        if config.max_model_len is not None and config.max_model_len > longest:
            raise GodwitError(f"max_model_len is {config.max_model_len}; this model takes at most {longest}")
        wanted = config.max_model_len or longest
        num_pages = config.num_pages or self._num_pages(wanted)
        self.max_model_len = min(wanted, num_pages * PAGE)
        self.cache = model.new_cache(num_pages=num_pages, plan=config.plan, mtp=config.speculate > 0)
        self._runner = Runner(model, cache=self.cache, config=config)
        self._prefix = PrefixCache(self.cache.pages) if config.prefix_cache else None
        self._scheduler = Scheduler(self.cache, prefix=self._prefix, config=config, replay=self._runner.few)
        self._drafter = Drafter(model, cache=self.cache, num_drafts=config.speculate) if config.speculate else None
        self._grammars = GrammarCompiler(tokenizer, vocab_size=model.config.vocab_size)
        self._choices: dict[str, list[Choice]] = {}
        self._aborted: list[Delta] = []
        self._arrivals = itertools.count()
        self._counts = dict.fromkeys(("prompt", "generated", "proposed", "accepted", "steps"), 0)
        self._seconds = dict.fromkeys(("step", "model", "sample"), 0.0)
        self.weight_version = 0

    def _num_pages(self, length: int) -> int:
        one = self.model.new_cache(num_pages=1, plan=self.config.plan, mtp=self.config.speculate > 0)
        return max(
            1, min(self.config.memory // (one.bytes_per_token * PAGE), pages_for(length) * self.config.max_num_seqs)
        )

    def add(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, request_id: str | None = None, priority: int = 0
    ) -> str:
        """Stand a request in line; returns its id.

        Args:
            prompt_ids: tokens; at least one.
            params: how to go on.
            request_id: a name that no request in work has; None: one is made.
            priority: lower goes first.

        Raises:
            GodwitError: a prompt that is empty, too long or not of this vocabulary, values that do not fit the model,
                or a grammar that cannot be compiled.
        """
        number = next(self._arrivals)
        name = f"request-{number}" if request_id is None else request_id
        if name in self._choices:
            raise GodwitError(f"request id {name!r} is in work; give another")
        self._check(prompt_ids, params)
        eos = () if params.ignore_eos else self.tokenizer.eos_token_ids
        stop_ids = dict.fromkeys(eos, False) | dict.fromkeys(params.stop_token_ids, True)
        room = self.max_model_len - len(prompt_ids)
        max_length = len(prompt_ids) + (room if params.max_tokens is None else min(room, params.max_tokens))
        request = Request(name, tuple(prompt_ids), params, max_length, stop_ids, (priority, number))
        seed = secrets.randbits(63) if params.seed is None else params.seed
        choices = [self._choice(request, index, derive_seed(seed, "choice", index)) for index in range(params.n)]
        self._choices[name] = choices
        for choice in choices:
            self._scheduler.add(choice)
        return name

    def _choice(self, request: Request, index: int, seed: int) -> Choice:
        params = request.params
        text = OutputText(
            tokenizer=self.tokenizer,
            stop=params.stop,
            include_stop=params.include_stop_str_in_output,
            skip_special=params.skip_special_tokens,
        )
        matcher = None if params.grammar is None else self._grammars.matcher(params.grammar)
        return Choice(request, index, seed, text, matcher, list(request.prompt_ids))

    def _check(self, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        vocab_size = self.model.config.vocab_size
        if not prompt_ids:
            raise GodwitError("the prompt is empty; give at least one token, e.g. the end-of-text token")
        if len(prompt_ids) >= self.max_model_len:
            raise GodwitError(
                f"the prompt has {len(prompt_ids)} tokens and this engine takes {self.max_model_len} with the output; "
                f"shorten it to {self.max_model_len - 1} or less, or raise max_model_len or num_pages"
            )
        if not 0 <= min(prompt_ids) <= max(prompt_ids) < vocab_size:
            wrong = next(one for one in prompt_ids if not 0 <= one < vocab_size)
            raise GodwitError(f"the prompt has token {wrong}; this model's vocabulary is 0 to {vocab_size - 1}")
        for name, ids in (("stop_token_ids", params.stop_token_ids), ("logit_bias", params.logit_bias)):
            if any(one >= vocab_size for one in ids):
                raise GodwitError(f"{name} has token {max(ids)}; this model's vocabulary is 0 to {vocab_size - 1}")
        if params.grammar is not None and params.min_tokens:
            raise GodwitError("min_tokens and a grammar cannot both say when the output may end; leave min_tokens out")
        if params.min_tokens and len(set(params.stop_token_ids)) >= vocab_size - len(self.tokenizer.eos_token_ids):
            raise GodwitError("stop_token_ids has nearly all tokens, so min_tokens leaves none; give fewer")

    def abort(self, request_id: str) -> None:
        """End a request now; its pages are free, and the next step tells its last deltas. Unknown ids: nothing."""
        for choice in self._choices.pop(request_id, []):
            self._scheduler.remove(choice)
            self._aborted.append(self._delta(choice, [], choice.text.finish()[0], [], "abort", None))

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do or to tell."""
        return bool(self._choices or self._aborted)

    @torch.inference_mode()
    def step(self) -> list[Delta]:
        """One step for everybody who has a seat; what it adds, in no set order."""
        start = time.perf_counter()
        deltas, self._aborted = self._aborted, []
        works = self._scheduler.schedule()
        if not works:
            return deltas
        running = time.perf_counter()
        calls = self._runner.run(works)
        ran = time.perf_counter()
        self._counts["steps"] += 1
        pairs = [(work, call.logits_of(number)) for call in calls for number, work in enumerate(call.works)]
        for work, logits_RV in pairs:
            self._count(work)
            if work.wants_all:
                self._tell_prompt(work, logits_RV)
        sampling = [work for work, _ in pairs if work.samples]
        if sampling:
            # Usually the logits of one call are the rows themselves; a copy of the rows' views is avoided then.
            kept = [logits[-1 - work.num_drafts :] for work, logits in pairs if work.samples]
            plain = len(calls) == 1 and len(kept) == len(pairs) and not calls[0].whole
            tokens, logprobs = self._sample(calls[0].logits_RV if plain else torch.cat(kept), sampling)
            sampled = time.perf_counter()
            self._seconds["sample"] += sampled - ran
            deltas += self._accept_all(sampling, tokens, logprobs)
        self._seconds["model"] += ran - running
        if self._drafter is not None:
            self._seconds["model"] += self._draft(calls)
        self._seconds["step"] += time.perf_counter() - start
        return deltas

    def _count(self, work: Work) -> None:
        end = min(work.start + work.num_tokens, len(work.choice.request.prompt_ids))
        self._counts["prompt"] += max(0, end - work.start)

    def _sample(self, logits_RV: Tensor, works: list[Work]) -> tuple[list[int], list[TokenLogprob | None]]:
        """Tokens of all rows, and log-probabilities of those that want them."""
        logits_RV = logits_RV.float()
        rows = [row for work in works for row in self._rows(work)]
        wanting = [number for number, row in enumerate(rows) if row.params.logprobs is not None]
        raw_WV = logits_RV[torch.tensor(wanting, device=logits_RV.device)] if wanting else None
        self._mask(logits_RV, works)
        tokens = sample(logits_RV, rows)
        logprobs: list[TokenLogprob | None] = [None] * len(rows)
        if raw_WV is not None:
            tops = [rows[number].params.logprobs or 0 for number in wanting]
            for number, entry in zip(wanting, logprobs_of(raw_WV, [tokens[at] for at in wanting], tops), strict=True):
                logprobs[number] = entry
        return tokens, logprobs

    def _rows(self, work: Work) -> list[Row]:
        """One row behind the last token and one behind each draft."""
        choice, params = work.choice, work.choice.request.params
        banned = tuple(choice.request.stop_ids) if params.min_tokens else ()
        rows = []
        for place in range(1 + work.num_drafts):
            num_output = choice.num_output + place
            output = (
                [*choice.token_ids[len(choice.request.prompt_ids) :], *choice.drafts[:place]]
                if params.penalised
                else ()
            )
            rows.append(
                Row(
                    params,
                    choice.seed,
                    num_output,
                    prompt_ids=choice.request.prompt_ids,
                    output_ids=output,
                    banned_ids=banned if num_output < params.min_tokens else (),
                )
            )
        return rows

    def _mask(self, logits_RV: Tensor, works: list[Work]) -> None:
        """Forbid what grammars do not allow. Their choices have no drafts, so a work is a row."""
        row, numbers, matchers = 0, [], []
        for work in works:
            if work.choice.matcher is not None:
                numbers.append(row)
                matchers.append(work.choice.matcher)
            row += 1 + work.num_drafts
        if not matchers:
            return
        mask_RW = self._grammars.new_mask(row)
        for number, matcher in zip(numbers, matchers, strict=True):
            matcher.fill(mask_RW, number)
        apply_mask(logits_RV, mask_RW, numbers)

    def _accept_all(self, works: list[Work], tokens: list[int], logprobs: list[TokenLogprob | None]) -> list[Delta]:
        deltas, row = [], 0
        for work in works:
            choice, rows = work.choice, slice(row, row + 1 + work.num_drafts)
            row = rows.stop
            if choice.num_output == 0:
                self._scheduler.prompt_done(choice)
            drafts = choice.drafts[: work.num_drafts]
            accepted = next((n for n, draft in enumerate(drafts) if draft != tokens[rows][n]), len(drafts))
            choice.drafts = []
            self._counts["proposed"] += len(drafts)
            self._counts["accepted"] += accepted
            delta = self._accept(choice, tokens[rows][: accepted + 1], logprobs[rows][: accepted + 1])
            if drafts and choice.sequence is not None:
                self.cache.truncate(choice.sequence, min(choice.num_computed, len(choice.token_ids) - 1))
            deltas.append(delta)
            if delta.finish_reason is not None:
                self._finish(choice)
        return deltas

    def _accept(self, choice: Choice, tokens: list[int], logprobs: list[TokenLogprob | None]) -> Delta:
        """Take sampled tokens up to the first that ends the choice."""
        request, params = choice.request, choice.request.params
        texts: list[str] = []
        reason: FinishReason | None = None
        stop_reason: int | str | None = None
        taken = 0
        while reason is None and taken < len(tokens):
            token = tokens[taken]
            taken += 1
            choice.token_ids.append(token)
            if choice.matcher is not None:
                choice.matcher.accept(token)
            if token in request.stop_ids:
                reason, stop_reason = "stop", token if request.stop_ids[token] else None
                if not params.include_stop_str_in_output:
                    continue
            text, stop = choice.text.add(token, may_stop=choice.num_output >= params.min_tokens)
            texts.append(text)
            if reason is None and stop is not None:
                reason, stop_reason = "stop", stop
            elif reason is None and choice.matcher is not None and choice.matcher.done:
                reason = "stop"
            elif reason is None and len(choice.token_ids) >= request.max_length:
                reason = "length"
        self._counts["generated"] += taken
        if reason is not None and not isinstance(stop_reason, str):
            text, stop = choice.text.finish()
            texts.append(text)
            if stop is not None:
                reason, stop_reason = "stop", stop
        entries = [entry for entry in logprobs[:taken] if entry is not None]
        return self._delta(choice, tokens[:taken], "".join(texts), entries, reason, stop_reason)

    def _delta(
        self,
        choice: Choice,
        tokens: list[int],
        text: str,
        logprobs: list[TokenLogprob],
        reason: FinishReason | None,
        stop_reason: int | str | None,
    ) -> Delta:
        request = choice.request
        first = choice.num_output == len(tokens)
        asked = request.params.prompt_logprobs is not None
        return Delta(
            request.request_id,
            choice.index,
            tuple(tokens),
            text,
            tuple(logprobs),
            (self.weight_version,) * len(tokens),
            reason,
            stop_reason,
            len(request.prompt_ids),
            choice.num_cached,
            tuple(choice.prompt_logprobs) if asked and first else None,
        )

    def _finish(self, choice: Choice) -> None:
        self._scheduler.remove(choice)
        left = self._choices[choice.request.request_id]
        left.remove(choice)
        if not left:
            del self._choices[choice.request.request_id]

    def _tell_prompt(self, work: Work, logits_TV: Tensor) -> None:
        """Log-probabilities of the prompt's tokens that this chunk's logits are about."""
        choice, prompt = work.choice, work.choice.request.prompt_ids
        if not choice.prompt_logprobs:
            choice.prompt_logprobs.append(None)
        start = choice.num_computed - work.num_tokens
        # What a preemption makes it compute again is there already.
        first, last = len(choice.prompt_logprobs), min(choice.num_computed + 1, len(prompt))
        if first < last:
            told_TV = logits_TV[first - 1 - start : last - 1 - start]
            count = choice.request.params.prompt_logprobs or 0
            choice.prompt_logprobs += logprobs_of(told_TV, prompt[first:last], [count] * (last - first))

    def _draft(self, calls: list[Call]) -> float:
        """Let the prediction layer see what was computed and propose what comes next; returns its seconds."""
        assert self._drafter is not None, "only with drafts"
        start = time.perf_counter()
        for call in calls:
            assert call.hidden_TD is not None, "the runner was told to keep them"
            offset, hidden, following, sequences, counts, wanted, choices = 0, [], [], [], [], [], []
            for work in call.works:
                choice = work.choice
                first, offset = offset, offset + work.num_tokens
                if choice.sequence is None:
                    continue
                # Rejected drafts were truncated: their rows are not looked at.
                count = choice.num_computed - work.start
                hidden.append(call.hidden_TD[first : first + count])
                following += choice.token_ids[work.start + 1 : work.start + 1 + count]
                sequences.append(choice.sequence)
                counts.append(count)
                choices.append(choice)
                wanted.append(work.samples and not choice.request.params.penalised and choice.matcher is None)
            if not choices:
                continue
            drafts = self._drafter(torch.cat(hidden), following, sequences, counts, wanted)
            for choice, proposed in zip(choices, drafts, strict=True):
                choice.drafts = proposed
        return time.perf_counter() - start

    def swap_weights(self, weights: Mapping[str, Tensor], *, recompute: bool = True) -> int:
        """Put new weights in place of the old between two steps; returns their version.

        Args:
            weights: tensors by their names in `model.state_dict()`; all of them, or some (the others stay).
            recompute: running choices compute what they have so far anew; False: they go on over keys and values of
                the old weights, as in-flight updates of asynchronous reinforcement learning do. Tokens carry the
                version they were sampled from either way.

        Raises:
            GodwitError: a name or a shape that the model has not; nothing was changed then.
        """
        own = self.model.state_dict()
        for name, tensor in weights.items():
            if name not in own or own[name].shape != tensor.shape:
                raise GodwitError(
                    f"new weights have {name} {tuple(tensor.shape)}, the model has "
                    f"{tuple(own[name].shape) if name in own else 'no such tensor'}; swap between equal models"
                )
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)
        self.weight_version += 1
        if self._prefix is not None:
            self._prefix.clear()
        for choice in list(self._scheduler.running):
            choice.pure = False
            choice.drafts.clear()
            if recompute:
                self._scheduler.preempt(choice)
        return self.weight_version

    def stats(self) -> EngineStats:
        """Counts so far."""
        scheduler, pages = self._scheduler, self.cache.pages
        held = 0 if self._prefix is None else self._prefix.num_evictable
        return EngineStats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_pages=pages.num_pages,
            num_free_pages=pages.num_free + held,
            prefix_hit_tokens=scheduler.hit_tokens,
            prefix_query_tokens=scheduler.query_tokens,
            drafts_proposed=self._counts["proposed"],
            drafts_accepted=self._counts["accepted"],
            prompt_tokens=self._counts["prompt"],
            generated_tokens=self._counts["generated"],
            preemptions=scheduler.preemptions,
            num_steps=self._counts["steps"],
            step_seconds=self._seconds["step"],
            model_seconds=self._seconds["model"],
            sample_seconds=self._seconds["sample"],
            weight_version=self.weight_version,
        )
