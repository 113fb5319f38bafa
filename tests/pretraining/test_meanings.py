"""Words that mean numbers: their rows follow one map, which trains."""

import torch

from pretraining.meanings import MeaningTable, fold_meanings, learn_meanings
from pretraining.sizes import Size
from pretraining.text_to_image import build_text_encoder
from pretraining.vocabulary import build_clip_tokenizer

MEANINGS = {"kabox": (1.0, -0.5), "tirux": (-1.0, 0.25), "dogaq": (0.5, 0.5), "unheard": (9.0, 9.0)}


def make():
    torch.manual_seed(0)
    tokenizer = build_clip_tokenizer(["Kabox and Tirux wave. Dogaq jumps."], 16)
    return tokenizer, build_text_encoder(tokenizer, Size(width=32, text_layers=1)).eval()


def test_what_is_learnt_of_some_words_holds_for_one_that_was_never_seen():
    tokenizer, encoder = make()
    plain = encoder.get_input_embeddings().weight.detach().clone()
    learn_meanings(encoder, tokenizer, MEANINGS)
    table = encoder.get_input_embeddings()
    assert isinstance(table, MeaningTable) and len(table.ids) == 3  # one is spelt
    rows = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in MEANINGS]
    wish = torch.randn(2, 32)
    optimizer = torch.optim.Adam(table.parameters(), lr=0.02)
    for _ in range(600):
        meant = table.numbers[:2] @ wish
        loss = (table(torch.tensor(rows[:2])) - meant).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens = tokenizer(["Dogaq and Kabox wave."], return_tensors="pt")
    with torch.no_grad():
        before = encoder(**tokens).last_hidden_state
        # The third word was not trained: its row is where the other two's put it.
        share = torch.linalg.solve(table.numbers[:2].T, table.numbers[2])
        rows_of = table(torch.tensor(rows[:3])) - table.middle
        assert torch.allclose(rows_of[2], share @ rows_of[:2], atol=1e-4)
        assert rows_of[2].norm() > 0.5
    fold_meanings(encoder)
    assert type(encoder.get_input_embeddings()) is torch.nn.Embedding
    with torch.no_grad():
        assert torch.equal(encoder(**tokens).last_hidden_state, before)
    others = [row for row in range(len(plain)) if row not in rows]
    assert torch.equal(encoder.get_input_embeddings().weight[others], plain[others])


def test_rows_that_mean_something_already_are_kept():
    tokenizer, encoder = make()
    learn_meanings(encoder, tokenizer, MEANINGS)
    first = encoder.get_input_embeddings().rows().detach()
    fold_meanings(encoder)
    learn_meanings(encoder, tokenizer, MEANINGS, trained=True)
    assert torch.allclose(encoder.get_input_embeddings().rows(), first, atol=1e-5)
